"""A run whose copy is on an S3 store that is killed in the middle of an upload, and comes back."""

import pytest

from benchmarks.chaos.services import BUCKET, store
from components.training.run_files import names
from tests.conditions import until
from tests.trainings import lines, points, results, start, undisturbed


@pytest.fixture
def objects(tmp_path):
    with store(tmp_path) as found:
        yield found


def test_a_store_that_is_killed_in_an_upload_costs_nothing_and_has_it_all_in_the_end(project, objects):
    project.set({"train.total_kimg": 3, "evaluate.every_kimg": 0, "execution.backup": f"s3://{BUCKET}"})
    project.stages("ingest", "preprocess")
    expected = undisturbed(project)

    stage = start(project, **objects.exports)
    try:
        until(lambda: "/checkpoints/" in " ".join(objects.content()) or stage.poll() is not None)
        objects.kill_in_an_upload()
        until(lambda: "it is tried again until it works" in stage.stdout.readline())
        objects.open()
        output, _ = stage.communicate()
    finally:
        stage.kill()
    assert stage.returncode == 0, output
    assert "is up to date again" in output
    (run,) = (project.path / "runs").glob("[!.]*")
    assert results(project, run) == expected
    assert len(lines(run / "starts.jsonl")) == 1
    shown = [step for step, _ in points(run, f"sqlite:///{project.path}/mlflow.db")]
    assert shown == [line["nimg"] for line in lines(run / "metrics.jsonl")]
    assert objects.content() == {f"{run.name}/{name}": (run / name).read_bytes() for name in names(run)}
