"""Alerts: a real Prefect server calls a real webhook about flow runs that fail, stop getting further, or get worse."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components import processes
from tests.conditions import until
from tests.servers import serving
from tests.toy import make_toy

SHORT = """
from flows import alerts
alerts.set_up({url!r}, minutes=0.2, evaluations=2)
"""


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.kinds.add(self.headers["Content-Type"])
        self.server.alerts.append(json.loads(body)["text"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.alerts, server.kinds = [], set()
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def toy(module_project):
    return make_toy(module_project)


def automations(api):
    """Triggers by name."""
    return {found["name"]: found["trigger"] for found in api.find("automations")}


def test_the_command_sets_them_up_and_again_changes_them(toy, api, hook):
    for minutes in (60, 90):
        command = [sys.executable, "-m", "flows.alerts", "--webhook", hook.url, "--minutes", str(minutes)]
        done = toy.run(*command, PREFECT_API_URL=api.url)
        assert done.returncode == 0, done.stdout
        found = automations(api)
        assert sorted(found) == ["bestiary: metric worse", "bestiary: no progress", "bestiary: run needs a person"]
        assert found["bestiary: no progress"]["within"] == minutes * 60
    assert len(api.find("block_documents", block_documents={"name": {"any_": ["bestiary-alerts"]}})) == 1


def test_a_webhook_that_is_no_address_is_one_line_and_exit_code_2(toy, api):
    done = toy.run(sys.executable, "-m", "flows.alerts", "--webhook", "host", PREFECT_API_URL=api.url)
    assert (done.returncode, done.stdout) == (2, "error: webhook is 'host'; allowed: http://… or https://…\n")


def start_flow(toy, api):
    env = processes.environment(PYTHONPATH=str(toy.path), PREFECT_API_URL=api.url)
    return subprocess.Popen([sys.executable, "-m", "flows"], cwd=toy.path, env=env, stderr=subprocess.DEVNULL)


def test_runs_are_told_of_that_stand_still_or_get_worse_or_fail_and_no_other(toy, api, hook):
    """A bucket of the first run, which ends well, would be full before that of the second."""
    toy.run(sys.executable, "-c", SHORT.format(url=hook.url), PREFECT_API_URL=api.url).check_returncode()
    assert start_flow(toy, api).wait(300) == 0

    (toy.path / "sources/tiny.yaml").write_text("other: content")
    linger = toy.path / "linger-train"
    linger.touch()
    run = start_flow(toy, api)
    try:
        until(lambda: hook.alerts)
    finally:
        (toy.path / "runs/abc/evaluations.jsonl").write_text("".join(map(evaluation, (1.0, 3.0, 2.0, 4.0))))
        linger.unlink()
    name = api.last_run()["name"]
    assert run.wait(300) == 0
    until(lambda: len(hook.alerts) > 1)

    (toy.path / "sources/tiny.yaml").write_text("a third: content")
    (toy.path / "refuse").touch()
    assert start_flow(toy, api).wait(300) == 2
    until(lambda: len(hook.alerts) > 2)
    assert hook.alerts == [
        f"train-stylegan {name}: no progress for 0.2 minutes, at 0.5 kimg",
        f"train-stylegan {name}: fid_infinity is 2.0 at 0.5 kimg, no better for 2 evaluations",
        f"train-stylegan {api.last_run()['name']}: Failed: error: three is not a size; allowed: 4",
    ]
    assert hook.kinds == {"application/json"}


def evaluation(value):
    return json.dumps({"kimg": 0.5, "yardstick": 1, "holdout": {"fid_infinity": value}}) + "\n"
