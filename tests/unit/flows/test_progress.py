"""flows/progress.py: what is shown, and that a server that is not there or does not answer costs nothing else."""

import contextlib
import json
import socket

import pytest
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from components.training.run_files import AT_WORK
from components.watching.run import progress
from flows import progress as publishing
from flows.events import Events
from flows.progress import Published, table


@pytest.fixture
def project(tmp_path):
    """The run abc is at work, another one has been written to."""
    for key in ("abc", "other"):
        (tmp_path / "runs" / key).mkdir(parents=True)
        tick(tmp_path, 500, key)
    (tmp_path / AT_WORK).parent.mkdir()
    (tmp_path / AT_WORK).write_text("abc")
    return tmp_path


def tick(project, nimg, key="abc"):
    record = {"nimg": nimg, "kimg": nimg / 1000, "images_per_s": 2.5, "seconds": nimg / 2}
    with (project / "runs" / key / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


@contextlib.contextmanager
def silent_server():
    """Takes connections and never answers; counts them by `accept`."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.settimeout(0)
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.getsockname()[1]}/api"}):
            yield server


def connections(server):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_the_table_has_kimg_pace_and_time_left(project):
    assert table(progress(project / "runs/abc", 2)).splitlines()[2:] == [
        "| run | abc |",
        "| kimg | 0.5 of 2, 1.5 left |",
        "| images/s | 2.5 now, 2.0 mean |",
        "| time left | 10 min |",
    ]


def test_a_server_that_does_not_answer_is_asked_once_in_a_while_and_ends_nothing(project, monkeypatch):
    monkeypatch.setattr(publishing, "PATIENCE_S", 0.2)
    with silent_server() as server, disable_run_logger():
        published = Published(project, 2, Events(project, "kernel"))
        published.look()
        assert connections(server) == 0  # nothing is new
        tick(project, 1000, "other")
        published.look()
        assert connections(server) == 0  # this is not its own
        tick(project, 1000)
        published.look()
        assert connections(server) == 1
        tick(project, 1500)
        published.look()
        assert connections(server) == 0  # not yet again
        published.finish()
        assert connections(server) == 1


def test_a_server_that_is_not_there_ends_nothing(project):
    published = Published(project, 2, Events(project, "kernel"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), disable_run_logger():
        tick(project, 1000)
        published.finish()
