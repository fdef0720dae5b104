"""The chain through both of its doors, on a tiny configuration: what runs, what does not, and what is kept."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from components.data.procedural import draw_creature

CREATURES = 80
STAGES = ["ingest", "preprocess", "train", "evaluate", "register"]


@pytest.fixture(scope="module")
def flow(module_project):
    """The flow, once, on a folder of pictures; what it printed."""
    folder = module_project.path / "pictures"
    folder.mkdir()
    for index in range(CREATURES):
        add_picture(folder, index)
    (folder / "broken.png").write_bytes(b"not a picture")
    shutil.copy(folder / "0.png", folder / "copy.png")
    values = ("--set", "ingest.source=pictures", "--set", "preprocess.holdout=0.2")
    done = module_project.run(sys.executable, "-m", "flows", *values)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def chain(module_project, flow):
    """The project after the flow has run."""
    return module_project


def add_picture(folder, index):
    Image.fromarray(draw_creature(7, index, 32)).save(folder / f"{index}.png")


def repro(project):
    """Runs dvc repro; returns the stages that ran."""
    done = project.run(sys.executable, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stdout
    return re.findall(r"Running stage '(\w+)'", done.stdout)


def read(project, name):
    return json.loads((project.path / name).read_text())


def history(project):
    run = project.path / "runs" / read(project, "models/candidate/training.json")["run_key"]
    return [
        [json.loads(line) for line in (run / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "starts.jsonl")
    ]


def test_the_flow_runs_every_stage_and_ends_with_a_table(chain, flow):
    assert "params.yaml: preprocess.holdout: 0.1 → 0.2\n" in flow
    assert re.findall(r"Running stage '(\w+)'", flow) == STAGES
    run_key = read(chain, "models/candidate/training.json")["run_key"]
    table = flow[flow.rindex("┏") :]
    for expected in (run_key, "kimg", "images/s", "bestiary-generator version 1", "mlflow ui", "reports/pictures"):
        assert expected in table
    pictures = {"samples.png", "reals.png", "comparison.png", "mixing.png", "closest.png"}
    assert {path.name for path in (chain.path / "reports/pictures").iterdir()} == pictures
    verdict = (chain.path / "reports/verdict.md").read_text()
    assert verdict.startswith("models:/bestiary-generator/1 is the ")
    assert "| coverage |" in verdict


def test_snapshots_are_measured_beside_the_training_by_the_same_numbers(chain, flow):
    run = chain.path / "runs" / read(chain, "models/candidate/training.json")["run_key"]
    exams = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [exam["nimg"] for exam in exams] == [200, 400]
    assert exams[-1]["yardstick"] == read(chain, "reports/evaluation.json")["yardstick"]
    for name, value in read(chain, "reports/metrics.json")["holdout"].items():
        assert exams[-1]["holdout"][name] == pytest.approx(value, rel=1e-3, abs=1e-3), name  # other threads, other sums
    assert exams[-1]["collapse"] == pytest.approx(read(chain, "reports/metrics.json")["collapse"], rel=1e-3, abs=1e-3)
    with Image.open(chain.path / "reports/history/frames.webp") as film:
        assert film.n_frames == 4


def test_dvc_draws_the_curves(chain, flow):
    done = chain.run(sys.executable, "-m", "dvc", "plots", "show")
    assert done.returncode == 0, done.stdout
    page = (chain.path / "dvc_plots/index.html").read_text()
    shutil.rmtree(chain.path / "dvc_plots")
    for title in ("distance to the holdout images", "quality and variety", "losses", "signs of the discriminator"):
        assert title in page


def test_the_data_is_all_accounted_for(chain):
    report = read(chain, "data/shards/report.json")
    assert report["in"] == CREATURES + 2 == report["kept"] + report["rejected"] + report["duplicates"]
    assert (report["kept"], report["rejected"], report["duplicates"]) == (CREATURES, 1, 1)
    rejected = (chain.path / "data/shards/rejected.jsonl").read_text()
    assert json.loads(rejected)["name"] == "broken.png"
    shard = np.load(chain.path / "data/shards/train-00000.npy")
    assert (shard.dtype, shard.shape[1:]) == (np.uint8, (16, 16, 3))


def test_the_history_shows_every_level_and_a_fade_at_each(chain):
    metrics, starts = history(chain)
    assert {(line["resolution"], line["alpha"] < 1) for line in metrics} == {(8, False), (16, True), (16, False)}
    assert [line["nimg"] for line in starts] == [0]
    assert all(np.isfinite(line[name]) for line in metrics for name in ("loss_g", "loss_d", "penalty", "images_per_s"))


def test_after_the_flow_dvc_has_nothing_to_do(chain):
    status = chain.run(sys.executable, "-m", "dvc", "status")
    assert "Data and pipelines are up to date." in status.stdout, status.stdout
    assert repro(chain) == []


def test_an_execution_value_runs_nothing(chain):
    chain.set({"execution.tick_kimg": 0.2, "execution.keep_checkpoints": 5})
    assert repro(chain) == []


def test_raising_the_target_goes_on_from_where_the_run_stood(chain):
    before = read(chain, "models/candidate/training.json")
    chain.set({"train.total_kimg": 0.6})
    assert repro(chain) == STAGES[2:]
    after = read(chain, "models/candidate/training.json")
    assert after["run_key"] == before["run_key"]
    assert (before["nimg"], after["nimg"]) == (400, 600)
    metrics, starts = history(chain)
    assert [line["nimg"] for line in starts] == [0, 400]
    assert [line["nimg"] for line in metrics] == sorted({line["nimg"] for line in metrics})
    assert read(chain, "reports/registered.json")["version"] == 2
    chain.set({"train.total_kimg": 0.5})
    lower = chain.run(sys.executable, "-m", "pipelines.train")
    assert lower.returncode == 2
    assert "error: train.total_kimg is 0.5; allowed: at least 0.6" in lower.stdout
    chain.set({"train.total_kimg": 0.6})


def test_picking_the_best_trains_nothing_and_exports_it(chain):
    metrics, starts = history(chain)
    chain.set({"evaluate.pick": "best"})
    assert repro(chain) == STAGES[2:]
    assert history(chain) == [metrics, starts]
    run = chain.path / "runs" / read(chain, "models/candidate/training.json")["run_key"]
    exams = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    best = min(exams, key=lambda exam: exam["holdout"][read(chain, "reports/evaluation.json")["metric"]])
    assert read(chain, "models/candidate/training.json")["nimg"] == best["nimg"]
    chain.set({"evaluate.pick": "last"})


def test_a_new_picture_in_the_source_folder_runs_everything(chain):
    before = read(chain, "models/candidate/training.json")["run_key"]
    chain.set({"train.total_kimg": 0.2})
    add_picture(chain.path / "pictures", CREATURES)
    assert repro(chain) == STAGES
    assert read(chain, "models/candidate/training.json")["run_key"] != before
    assert read(chain, "data/shards/report.json")["kept"] == CREATURES + 1


def test_after_dvc_the_flow_runs_nothing(chain):
    done = chain.run(sys.executable, "-m", "flows")
    assert done.returncode == 0, done.stdout
    assert "Running stage" not in done.stdout
