"""A run in the midst of which the clock jumps, two days on and then back to three hours ago, ends as one without."""

import json
import sys
import time
from itertools import pairwise

from benchmarks.chaos.clock import set_clock, settable
from tests.conditions import until
from tests.trainings import lines, points, results, start, undisturbed

DAY_MS = 86_400_000


def test_a_clock_that_jumps_changes_nothing_but_the_times_of_lines(project):
    project.set({"train.total_kimg": 4, "evaluate.every_kimg": 0})
    project.stages("ingest", "preprocess")
    expected = undisturbed(project)

    began = time.monotonic()
    settable(project.path)
    stage = start(project)
    try:
        until(lambda: list(project.path.glob("runs/*/checkpoints/[0-9]*")) or stage.poll() is not None)
        (run,) = (project.path / "runs").iterdir()
        for hours, jump in ((48, DAY_MS), (-3, -DAY_MS)):
            before = lines(run / "metrics.jsonl")[-1]["time"]
            set_clock(project.path, 3600 * hours)
            until(lambda: (lines(run / "metrics.jsonl")[-1]["time"] - before) / jump > 1 or stage.poll() is not None)  # noqa: B023
        output, _ = stage.communicate()
    finally:
        stage.kill()
    assert stage.returncode == 0, output
    assert results(project, run) == expected
    assert len(lines(run / "starts.jsonl")) == 1, output
    assert not (run / "failures.jsonl").exists()

    ticks = lines(run / "metrics.jsonl")
    jumps = [later["time"] - earlier["time"] for earlier, later in pairwise(ticks)]
    assert max(jumps) > DAY_MS > -DAY_MS > min(jumps)
    seconds = [tick["seconds"] for tick in ticks]
    assert seconds == sorted(seconds)
    assert seconds[-1] < time.monotonic() - began
    assert points(run, f"sqlite:///{project.path}/mlflow.db") == [(tick["nimg"], tick["time"]) for tick in ticks]
    told = project.run(sys.executable, "-m", "flows.status", "--json")
    standing = json.loads(told.stdout)["run"]
    assert standing["checkpoint_age_s"] >= 0
    assert standing["training"] is False
    assert standing["progress"]["seconds_left"] == 0
