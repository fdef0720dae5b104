"""flows/summary.py: the numbers of a known chain."""

import json
import shutil

import pytest
from rich.console import Console

from flows.summary import summarise


@pytest.fixture
def finished(tmp_path):
    """The outputs of a chain, as the stages leave them."""

    def write(path, content):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)

    qualities = {"precision": 0.5, "recall": 0.25, "density": 0.4, "coverage": 0.125}
    metrics = {
        "holdout": {"frechet_random_conv": 3.0, **qualities},
        "holdout_floor": {"frechet_random_conv": 1.5},
        "holdout_baselines": {"blurred_8x8": 1.0},
        "memorisation": {"share": 0.02},
        "counts": {"samples": 900},
    }
    write("reports/metrics.json", json.dumps(metrics))
    write("reports/evaluation.json", json.dumps({"metric": "frechet_random_conv"}))
    write("models/candidate/training.json", json.dumps({"run_key": "abc", "nimg": 6000}))
    first, last = {"nimg": 1000, "kimg": 1.0, "seconds": 9.0}, {"nimg": 6000, "kimg": 6.0, "seconds": 40.0}
    write("runs/abc/metrics.jsonl", f"{json.dumps(first)}\n{json.dumps(last)}\n")
    write(
        "reports/registered.json",
        json.dumps({"model": "m", "version": 3, "alias": "champion", "decision": "by ada: [/wings]"}),
    )
    for picture in ("reports/pictures/b.png", "reports/pictures/a.png"):
        write(picture, "")
    for grid in ("000000900", "000006000"):
        write(f"runs/abc/grids/{grid}.png", "")
    return tmp_path


def test_facts_are_those_of_the_last_tick(finished):
    facts = summarise(finished, minutes=1.26).facts
    assert facts == {
        "run key": "abc",
        "kimg": "6",
        "images/s": "150.0",
        "model": "m version 3, alias champion; by ada: [/wings]",
        "quality": "precision 0.5, recall 0.25, density 0.4, coverage 0.125",
        "copies of train images": "2.0% of the samples",
        "pictures": "reports/pictures/a.png\nreports/pictures/b.png\nruns/abc/grids/000006000.png",
        "look at it all": ".venv/bin/mlflow ui",
        "minutes": "1.3",
    }


def test_a_candidate_from_dvcs_cache_needs_no_run(finished):
    shutil.rmtree(finished / "runs")
    facts = summarise(finished, minutes=1).facts
    assert (facts["kimg"], facts["images/s"]) == ("6", "–")


def test_both_shapes_show_every_row(finished):
    summary = summarise(finished, minutes=0)
    assert summary.metric == "frechet_random_conv (N = 900)"
    assert summary.values == {"this generator": 3.0, "real": 1.5, "blurred_8x8": 1.0}
    assert "| reals blurred to 8×8 (the mark) | 1 |" in summary.markdown().splitlines()
    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary)
    shown = [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]
    assert "real against real (the floor) 1.5" in shown
    assert "run key abc" in shown
