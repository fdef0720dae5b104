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
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import save_file

from components.config import InputError
from components.data.files import write_json
from components.data.images import save_png
from components.generation.sampler import load_generator, sample
from components.models import build_generator
from components.tracking import registry
from pipelines import register

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow 3.17 on SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # MLflow's own, at import
]
ROOT = Path(__file__).parents[2]
CONFIG = {
    **{"format": 1, "arch": "stylegan", "resolution": 16, "channels": 3},
    **{"latent_dim": 16, "channel_base": 256, "channel_max": 16},
}
MODEL, KEY = "bestiary-generator", "0123456789abcdef"
BASELINES = {"real": 0.1, "untrained": 5.0, "mean_image": 4.0, "repeated_image": 3.0, "blurred_8x8": 0.5}
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
        candidate()
        write_json(Path("reports/metrics.json"), metrics())
        save_png(Path("reports/pictures/samples.png"), np.zeros((8, 8, 3), np.uint8))
        tick = {"nimg": 2000, "kimg": 2.0, "loss_g": 1.0, "time": 10**12}
        Path("runs", KEY).mkdir(parents=True)
        Path("runs", KEY, "metrics.jsonl").write_text(json.dumps(tick) + "\n")
        yield folder


def candidate() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build_generator(CONFIG).state_dict()
    folder = Path("models/candidate")
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "generator.safetensors")
    write_json(folder / "config.json", CONFIG)
    train = {"arch": "stylegan", "total_kimg": 2.0}
    digests = {"data_digest": "d" * 64, "code_digest": "c" * 64}
    write_json(folder / "training.json", digests | {"run_key": KEY, "nimg": 2000, "train": train})


def metrics(own: float = 2.0, **changes) -> dict:
    split = {"frechet_random_conv": own, "baselines": BASELINES}
    return {
        **{"extractor": "random_conv", "extractor_digest": "e" * 64, "samples": 64, "data_digest": "d" * 64},
        "holdout_digest": "h" * 64,
        **{"run_key": KEY, "nimg": 2000, "train": split, "holdout": split},
    } | changes


def version(model: str, measured: dict) -> str:
    """A version with nothing but the tags it is judged by."""
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    return str(client.create_model_version(model, Path.cwd().as_uri(), tags=registry._measured(measured)).version)


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
    verdict = [
        {"against": name, "value": BASELINES[name], "own": 2.0, "passed": True, "reason": ""}
        for name in ("untrained", "mean_image", "repeated_image")
    ]
    run_id = registered.pop("mlflow_run_id")
    assert registered == {
        **{"model": MODEL, "version": 1, "uri": f"models:/{MODEL}/1", "alias": "champion", "verdict": verdict},
    }
    client = MlflowClient()
    (only,) = client.search_model_versions(f"name = '{MODEL}'")
    assert (only.run_id, only.status) == (run_id, "READY")
    assert aliases(MODEL) == {"challenger": "1", "champion": "1"}
    for tag, value in {"run_key": KEY, "data_digest": "d" * 64, "git_commit": "none", "samples": "64"}.items():
        assert only.tags[f"bestiary.{tag}"] == value
    assert [point.step for point in client.get_metric_history(run_id, "holdout/frechet_random_conv")] == [2000]
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


def test_metrics_of_another_generator_are_refused(registered, tmp_path, monkeypatch):
    for name in ("params.yaml", "models/candidate/training.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(Path(name).read_bytes())
    write_json(tmp_path / "reports/metrics.json", metrics(nimg=1000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="measures another generator"):
        register.main()
    assert not Path("reports/registered.json").exists()


def test_the_first_one_must_beat_the_baselines():
    measured = metrics(3.5)  # worse than the repeated image
    alias, rows = registry.promote("weak", version("weak", measured), measured)
    assert alias == "challenger"
    assert {row.against: row.passed for row in rows} == {"untrained": True, "mean_image": True, "repeated_image": False}
    assert aliases("weak") == {"challenger": "1"}


def test_a_better_one_takes_over_and_a_worse_one_does_not():
    assert registry.promote("race", version("race", metrics(2.0)), metrics(2.0))[0] == "champion"
    assert registry.promote("race", version("race", metrics(1.5)), metrics(1.5)) == (
        "champion",
        [registry.Row("champion v1", 2.0, 1.5, True)],
    )
    assert registry.promote("race", version("race", metrics(1.5)), metrics(1.5)) == (
        "challenger",
        [registry.Row("champion v2", 1.5, 1.5, False)],
    )
    assert aliases("race") == {"challenger": "3", "champion": "2"}
    again = registry.promote("race", "2", metrics(1.5))  # keeps the verdict that made it champion
    assert again == ("champion", [registry.Row("champion v1", 2.0, 1.5, True)])


@pytest.mark.parametrize(
    ("change", "what"),
    [({"extractor_digest": "f" * 64}, "extractor"), ({"samples": 65}, "N"), ({"holdout_digest": "0" * 64}, "holdout")],
)
def test_other_yardsticks_are_not_compared(change, what):
    model = f"yardstick-{what}"
    registry.promote(model, version(model, metrics(2.0)), metrics(2.0))
    other = metrics(0.2, **change)
    alias, rows = registry.promote(model, version(model, other), other)
    assert alias == "challenger"
    assert rows == [registry.Row("champion v1", 2.0, 0.2, False, f"measured with another {what}")]
    assert aliases(model) == {"challenger": "2", "champion": "1"}


def test_a_person_may_move_the_alias():
    for own in (2.0, 2.5):
        registry.promote("moved", version("moved", metrics(own)), metrics(own))
    MlflowClient().set_registered_model_alias("moved", "champion", "2")
    measured = metrics(2.2)
    assert registry.promote("moved", version("moved", measured), measured)[1][0].against == "champion v2"
    assert aliases("moved") == {"challenger": "3", "champion": "3"}
