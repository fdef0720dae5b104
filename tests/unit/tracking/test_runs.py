"""MLflow is filled from a run's files: once, whatever the number of calls and wherever the last one stopped."""

import json
import subprocess

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.data.images import save_png
from components.tracking import runs

METRICS = {
    "holdout": {"frechet_random_conv": 2.5, "coverage": 0.5},
    "holdout_floor": {"frechet_random_conv": 1.0},
    "counts": {"samples": 9},
}


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """MLflow's own default store, in a folder of its own for the tests of this file; each uses another run key."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def line(nimg: int, **values) -> dict:
    return {"nimg": nimg, "kimg": nimg / 1000, "loss_g": 1 / nimg, "loss_d": -nimg, "time": 10**12 + nimg} | values


def write(run_dir, lines, tail: str = "") -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines) + tail)


def history(run_key: str, metric: str) -> list[tuple]:
    points = MlflowClient().get_metric_history(runs.open_run(run_key), metric)
    return sorted((point.step, point.value, point.timestamp) for point in points)


def images(run_key: str) -> list[str]:
    return [file.path for file in MlflowClient().list_artifacts(runs.open_run(run_key), "images")]


def test_one_run_per_key(store):
    first = runs.open_run("one")
    assert runs.open_run("one") == first != runs.open_run("two")
    assert MlflowClient().get_run(first).data.tags["bestiary.run_key"] == "one"
    assert (store / "mlflow.db").exists()


def test_syncing_twice_changes_nothing(tmp_path):
    lines = [line(nimg) for nimg in range(1, 101)]  # more than one batch
    write(tmp_path, lines)
    assert runs.sync_metrics("twice", tmp_path) == 100
    assert runs.sync_metrics("twice", tmp_path) == 0
    assert history("twice", "loss_g") == [(entry["nimg"], entry["loss_g"], entry["time"]) for entry in lines]
    logged = MlflowClient().get_run(runs.open_run("twice")).data.metrics
    assert set(logged) == {"loss_g", "loss_d"}


def test_a_call_that_died_half_way_is_finished_by_the_next(tmp_path):
    lines = [line(nimg) for nimg in range(1, 11)]
    write(tmp_path, lines)
    run_id = runs.open_run("died")
    points = [point for entry in lines[:4] for point in runs._points(entry)]
    MlflowClient().log_batch(run_id, metrics=points[:-1])  # points arrived, the tag did not
    runs.sync_metrics("died", tmp_path)
    assert history("died", "loss_d") == [(entry["nimg"], entry["loss_d"], entry["time"]) for entry in lines]


def test_a_truncated_and_resumed_file_neither_repeats_nor_loses_a_point(tmp_path):
    write(tmp_path, [line(nimg) for nimg in (10, 20, 30, 40)])
    runs.sync_metrics("resumed", tmp_path)
    write(tmp_path, [line(10), line(20)], tail='{"nimg": 30, "lo')  # back to the checkpoint, a line half written
    assert runs.sync_metrics("resumed", tmp_path) == 0
    write(tmp_path, [line(10), line(20), *(line(nimg, time=2 * 10**12 + nimg) for nimg in (30, 40, 50, 60))])
    assert runs.sync_metrics("resumed", tmp_path) == 2
    assert [step for step, _, _ in history("resumed", "loss_g")] == [10, 20, 30, 40, 50, 60]


def test_a_run_without_a_file_yet_has_nothing_to_send(tmp_path):
    assert runs.sync_metrics("early", tmp_path) == 0


def test_diverged_values_arrive_too(tmp_path):
    write(tmp_path, [line(1, loss_g=float("nan"), memory_gib=None)])
    assert runs.sync_metrics("nan", tmp_path) == 1
    assert MlflowClient().get_run(runs.open_run("nan")).data.metrics["loss_d"] == -1


def test_one_sample_grid_a_tick(tmp_path):
    write(tmp_path, [line(1), line(2)])
    for nimg in (1, 2, 3):  # the third has no line yet
        save_png(tmp_path / "grids" / f"{nimg:09d}.png", np.full((8, 8, 3), nimg, np.uint8))
    for _ in range(2):
        runs.sync_metrics("grids", tmp_path)
    full_size = [path for path in images("grids") if path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in full_size) == ["1", "2"]
    write(tmp_path, [line(1), line(2), line(3)])
    runs.sync_metrics("grids", tmp_path)
    assert len(images("grids")) == 6  # each with MLflow's own thumbnail


def test_what_a_run_is(tmp_path, monkeypatch):
    train = {"arch": "stylegan", "batch": 32, "total_kimg": 60.0}
    run_id = runs.describe("described", train, "d" * 64)
    assert runs.describe("described", train | {"total_kimg": 90.0}, "d" * 64) == run_id
    run = MlflowClient().get_run(run_id)
    assert run.data.params == {"train.arch": "stylegan", "train.batch": "32"}
    assert run.data.tags["bestiary.total_kimg"] == "90"
    assert run.data.tags["bestiary.data_digest"] == "d" * 64
    assert run.data.tags["bestiary.git_commit"] == "none"
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("data/shards", "d" * 36)


def test_the_data_set_carries_dvcs_digest_where_there_is_one(store):
    digest = "0123456789abcdef0123456789abcdef.dir"
    lock = store / "dvc.lock"
    lock.write_text(f"stages:\n  preprocess:\n    cmd: x\n    outs:\n    - path: data/shards\n      md5: {digest}\n")
    run_id = runs.describe("dvc", {"total_kimg": 1.0}, "d" * 64)
    lock.unlink()
    (data,) = MlflowClient().get_run(run_id).inputs.dataset_inputs
    assert data.dataset.digest == digest


def test_results_are_logged_once_and_again_when_they_change(tmp_path):
    save_png(tmp_path / "samples.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "frames.webp").write_bytes(b"RIFF")
    for _ in range(2):
        run_id = runs.log_results("results", METRICS, 4, [tmp_path])
    better = METRICS | {"holdout": METRICS["holdout"] | {"frechet_random_conv": 2.0}}
    runs.log_results("results", better, 4, [tmp_path])
    assert sorted(value for _, value, _ in history("results", "holdout/frechet_random_conv")) == [2.0, 2.5]
    assert [step for step, _, _ in history("results", "holdout_floor/frechet_random_conv")] == [4]
    client = MlflowClient()
    assert client.get_run(run_id).data.metrics["holdout/frechet_random_conv"] == 2.0
    pictures = [file.path for file in client.list_artifacts(run_id, "pictures")]
    assert pictures == ["pictures/frames.webp", "pictures/samples.png"]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_names_of_results():
    assert runs.flatten(METRICS | {"holdout_low": {"coverage": 0.4}}) == {
        **{"holdout/frechet_random_conv": 2.5, "holdout/coverage": 0.5, "holdout_floor/frechet_random_conv": 1.0},
        "counts/samples": 9,
    }


def test_a_label_may_be_called_anything(tmp_path):
    labels = {"cats & dogs": 0.5, "(misc)": 0.25, "it's": 0.125, "fée": 1.0, "no label": 0.0}
    runs.log_results("labels", {"labels": labels}, 4, [])
    logged = MlflowClient().get_run(runs.open_run("labels")).data.metrics
    assert sorted(logged.values()) == sorted(labels.values())
    assert logged["labels/cats _26_ dogs"] == 0.5


def test_after_a_change_of_yardstick_only_the_new_one_is_sent(tmp_path):
    write(tmp_path, [line(10), line(20)])
    exams = [
        {"nimg": 10, "time": 10**12, "holdout": {"kid": value}, "yardstick": {"n": n}}
        for n, value in ((9, 1.0), (8, 2.0))
    ]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(exam) + "\n" for exam in exams))
    runs.sync_metrics("yardsticks", tmp_path)
    assert [value for _, value, _ in history("yardsticks", "holdout/kid")] == [2.0]


def test_snapshots_measured_in_mid_run_are_points_of_the_same_curves(tmp_path):
    write(tmp_path, [line(10), line(20)])
    exams = [
        {"nimg": nimg, "kimg": nimg / 1000, "time": 10**12, "holdout": {"coverage": nimg / 100}, "yardstick": {"n": 9}}
        for nimg in (10, 20)
    ]
    for known in (exams[:1], exams, exams):
        (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(exam) + "\n" for exam in known))
        runs.sync_metrics("exams", tmp_path)
    assert [(step, value) for step, value, _ in history("exams", "holdout/coverage")] == [(10, 0.1), (20, 0.2)]
    assert "yardstick/n" not in MlflowClient().get_run(runs.open_run("exams")).data.metrics


def test_alarms_are_tags_that_follow_what_is_to_be_said():
    seen = []
    for text in ("since 4 kimg: x", "since 4 kimg: x", "over at 9 kimg, was since 4 kimg: x", ""):
        runs.tag_alarms("alarms", {"collapse": text, "augmentation": ""})
        tags = MlflowClient().get_run(runs.open_run("alarms")).data.tags
        seen.append({name: value for name, value in tags.items() if name.startswith("bestiary.alarm")})
    rings, over = ({"bestiary.alarm.collapse": f"{word} 4 kimg: x"} for word in ("since", "over at 9 kimg, was since"))
    assert seen == [rings, rings, over, {}]


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert runs.git_commit() == "none"
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    assert len(runs.git_commit()) == 40


def test_an_mlflow_that_does_not_answer_is_an_mlflow_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException):
        runs.sync_metrics("key", tmp_path)
