"""A measured generator is registered once, judged, named, found again, and served without the checkout."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from PIL import Image

from components.config import Gate, InputError, Register, load_params
from components.data.files import write_json
from components.generation.sampler import load_generator, sample
from components.processes import free_port
from components.tracking import registry
from components.tracking.gate import Check
from pipelines import register
from tests.candidates import KEY, METRIC, MODEL, YARDSTICK, evaluation, metrics, write_measured
from tests.preprocessing import write_shards

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # MLflow's own, at import
ROOT = Path(__file__).parents[2]
AUTO, ASK = (
    Register(model=MODEL, promote=promote, gate=Gate(max_memorised=0.1, min_coverage=0.1))
    for promote in ("auto", "ask")
)
SERVE = """
import json, sys
import mlflow
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict([{"seed": 3}, {"seed": 5}], params={"psi": 0.6})
import components
print(json.dumps({"code": components.__file__, "rows": answer}))
"""


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory):
    """A project's folder in which evaluation has just ended, with MLflow's own default store."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        write_measured(folder)
        yield folder


def judged(model: str, own: float, measure=None, yardstick=YARDSTICK, rules=AUTO) -> tuple[str, list[Check]]:
    """The verdict on a new version with nothing but its numbers."""
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    version = str(client.create_model_version(model, Path.cwd().as_uri()).version)
    client.set_registered_model_alias(model, "challenger", version)
    return registry.decide(registry.Subject(model, version, metrics(own), yardstick, METRIC), rules, measure)


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def aliases(model: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in MlflowClient().get_registered_model(model).aliases.items()}


@pytest.fixture(scope="module")
def registered(project) -> dict:
    """What the stage writes; it runs twice."""
    register.main()
    first = Path("reports/registered.json").read_bytes()
    register.main()
    assert Path("reports/registered.json").read_bytes() == first
    return json.loads(first)


def test_the_stage_registers_once_and_says_what_it_did(registered):
    run_id, verdict = registered.pop("mlflow_run_id"), registered.pop("verdict")
    assert registered == {"model": MODEL, "version": 1, "alias": "champion", "waits": False, "decision": ""}
    assert [check["name"] for check in verdict][3:] == ["untrained", "mean_image", "repeated_image"]
    assert all(check["passed"] for check in verdict)
    written = Path("reports/verdict.md").read_text()
    assert written.startswith(f"models:/{MODEL}/1 is the champion")
    assert MlflowClient().get_model_version(MODEL, "1").description == written
    client = MlflowClient()
    (only,) = client.search_model_versions(f"name = '{MODEL}'")
    assert (only.run_id, only.status) == (run_id, "READY")
    assert aliases(MODEL) == {"challenger": "1", "champion": "1"}
    for tag, value in {"run_key": KEY, "data_digest": "d" * 64, "git_commit": "none", "verdict": "passed"}.items():
        assert only.tags[f"bestiary.{tag}"] == value
    assert json.loads(only.tags["bestiary.measured"])["yardstick"] == YARDSTICK
    assert [point.step for point in client.get_metric_history(run_id, f"holdout/{METRIC}")] == [2000]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_second_process_serves_it_with_pickle_forbidden(registered, tmp_path):
    """In another folder, without the checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd()}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONDONTWRITEBYTECODE": "1",  # a local store's model is imported where it lies
    }
    command = [sys.executable, "-P", "-c", SERVE, f"models:/{MODEL}@challenger"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [row["seed"] for row in answer["rows"]] == [3, 5]
    assert not Path(answer["code"]).is_relative_to(ROOT)
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(row["png"])))) for row in answer["rows"]])
    expected = sample(load_generator(Path("models/candidate")), [3, 5], 0.6)
    assert np.abs(pictures.astype(int) - expected).max() <= 1


def test_a_version_holds_no_pickle(registered):
    files = [path for path in Path("mlruns").rglob("models/*/artifacts/**/*") if path.is_file()]
    assert {".safetensors", ".py", ".json", ".yaml", ".txt", ""} >= {path.suffix for path in files}
    (requirements,) = [path.read_text().split() for path in files if path.name == "requirements.txt"]
    assert all(line.count("==") == 1 for line in requirements)


@pytest.mark.parametrize("uri", [f"models:/{MODEL}@challenger", f"models:/{MODEL}@champion", f"models:/{MODEL}/1"])
def test_a_uri_becomes_a_local_folder(registered, uri):
    folder = registry.resolve(uri)
    for name in ("generator.safetensors", "config.json"):
        assert (folder / name).read_bytes() == Path("models/candidate", name).read_bytes()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            f"models:/{MODEL}@nobody",
            f"there is models:/{MODEL}@challenger, models:/{MODEL}@champion, models:/{MODEL}/1",
        ),
        (f"models:/{MODEL}/7", f"there is models:/{MODEL}@challenger"),
        ("models:/other/1", MODEL),
        (f"models:/{MODEL}", "allowed: models:/NAME@ALIAS"),
    ],
)
def test_a_wrong_uri_names_what_there_is(registered, uri, message):
    with pytest.raises(InputError, match=message):
        registry.resolve(uri)


def test_a_model_of_another_kind_is_said(registered, tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    client = MlflowClient()
    client.create_registered_model("foreign")
    client.create_model_version("foreign", tmp_path.as_uri())
    with pytest.raises(InputError, match="models:/foreign/1 is no generator of this pipeline"):
        registry.resolve("models:/foreign/1")


def test_an_mlflow_that_is_not_there_is_one_line(registered):
    environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "pipelines.register"]
    env = os.environ | environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1].startswith("error: MLflow does not take it: ")
    assert "Traceback" not in done.stdout


def test_metrics_of_another_generator_are_refused(registered, tmp_path, monkeypatch):
    for name in ("params.yaml", "models/candidate/training.json", "reports/metrics.json", "reports/intervals.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(Path(name).read_bytes())
    write_json(tmp_path / "reports/evaluation.json", evaluation(nimg=1000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="measures another generator"):
        register.main()
    assert not Path("reports/registered.json").exists()


def test_the_first_one_must_beat_the_baselines():
    alias, checks = judged("weak", 3.5)  # worse than the repeated image
    assert (alias, failed(checks)) == ("challenger", ["repeated_image"])
    assert aliases("weak") == {"challenger": "1"}
    assert MlflowClient().get_model_version("weak", "1").tags["bestiary.verdict"] == "not passed: repeated_image"


def test_a_better_one_takes_over_and_a_worse_one_does_not():
    assert judged("race", 2.0)[0] == "champion"
    alias, checks = judged("race", 1.5)
    assert (alias, checks[-1].name, failed(checks)) == ("champion", "champion v1", [])
    alias, checks = judged("race", 1.4)  # better, but not by more than 0.1 and 0.1 in squares
    assert (alias, failed(checks)) == ("challenger", ["champion v2"])
    assert aliases("race") == {"challenger": "3", "champion": "2"}


def test_judging_the_champion_again_keeps_the_verdict_that_made_it_one():
    first = judged("again", 2.0)
    subject = registry.Subject("again", "1", metrics(9.0), YARDSTICK, METRIC)
    assert registry.decide(subject, AUTO, None) == first


@pytest.mark.parametrize("change", [{"extractor_digest": "f" * 64}, {"samples": 65}, {"holdout_digest": "0" * 64}])
def test_by_another_yardstick_the_champion_is_measured_again_first(change):
    model = f"yardstick-{next(iter(change))}"
    judged(model, 2.0)
    asked = []

    def measure(folder):
        asked.append(folder)
        with pytest.raises(Timeout):  # another one would be judged by a champion that is about to go
            FileLock(registry.LOCK).acquire(timeout=0)
        return metrics(0.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_download", lambda uri: Path(uri))
        alias, checks = judged(model, 1.0, measure, YARDSTICK | change)
        assert asked == [Path(f"models:/{model}/1")]
        assert (alias, failed(checks)) == ("challenger", ["champion v1"])  # better than its old 2.0, not than its 0.5
        assert judged(model, 0.2, measure, YARDSTICK | change)[0] == "champion"
    assert len(asked) == 1  # the second time its numbers are known


def test_a_champion_that_cannot_be_measured_stays():
    judged("other", 2.0)

    def measure(folder):
        return "it draws images of 4 channels, the data has 3"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_download", lambda uri: Path(uri))
        alias, checks = judged("other", 0.1, measure, YARDSTICK | {"samples": 65})
    assert (alias, checks[-1].allowed) == ("challenger", "it draws images of 4 channels, the data has 3")


def test_a_champion_is_measured_by_the_params_that_measured_the_candidate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/shards").mkdir(parents=True)
    splits = {"train": list(range(30)), "holdout": list(range(30, 40))}
    write_shards(Path("data/shards"), np.zeros((40, 16, 16, 3), np.uint8), splits)
    with pytest.raises(InputError, match="reports was measured by other params or data than there are now"):
        register._measure(load_params(ROOT / "params.yaml"), evaluation(), Path("anything"))


def test_a_person_may_move_the_alias():
    for own in (2.0, 2.5):
        judged("moved", own)
    MlflowClient().set_registered_model_alias("moved", "champion", "2")
    alias, checks = judged("moved", 2.2)
    assert (alias, checks[-1].name) == ("champion", "champion v2")
    assert aliases("moved") == {"challenger": "3", "champion": "3"}
