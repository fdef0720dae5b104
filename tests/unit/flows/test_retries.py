"""flows/retries.py: tries that show new images go on for ever, two fruitless ones in a row are the end."""

from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from components.config import InputError
from components.training.run_files import AT_WORK
from flows.retries import getting_further
from flows.stages import StageError, stage_task


@pytest.fixture(autouse=True)
def no_server():
    """Logs go nowhere: there is no flow run."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture
def run(tmp_path):
    """The run at work, of a project that has reached 1 kimg."""
    begin(tmp_path, "abc")
    folder = tmp_path / "runs/abc"
    reach(folder, 1000)
    return folder


def begin(project, key):
    (project / AT_WORK).parent.mkdir(exist_ok=True)
    (project / AT_WORK).write_text(key)


def reach(run, nimg):
    (run / f"checkpoints/{nimg:09d}").mkdir(parents=True)


def ask(condition, error=None):
    state = SimpleNamespace(data=error or StageError("killed"))
    return condition(stage_task("draw"), TaskRun(task_key="train", dynamic_key="0"), state)


def test_as_long_as_each_try_gets_further_there_is_another(run):
    again = getting_further(run.parents[1])
    for nimg in range(2000, 12000, 1000):
        reach(run, nimg)
        assert ask(again)


def test_two_tries_in_a_row_that_get_nowhere_end_it(run):
    again = getting_further(run.parents[1])
    assert ask(again)
    assert not ask(again)


def test_one_that_gets_further_between_them_forgives_the_first(run):
    again = getting_further(run.parents[1])
    assert ask(again)
    reach(run, 2000)
    assert ask(again)
    assert ask(again)
    assert not ask(again)


def test_a_tick_counts_like_a_checkpoint_but_not_twice(run):
    again = getting_further(run.parents[1])
    (run / "metrics.jsonl").write_text('{"nimg": 1500}\n')
    assert ask(again)
    (run / "metrics.jsonl").write_text('{"nimg": 1200}\n')  # it went back to the checkpoint, and on again
    assert ask(again)
    (run / "metrics.jsonl").write_text('{"nimg": 1500}\n')
    assert not ask(again)


def test_a_new_run_gets_further_than_none(tmp_path):
    again = getting_further(tmp_path)
    assert ask(again)
    begin(tmp_path, "new")
    reach(tmp_path / "runs/new", 100)
    assert ask(again)


def test_another_projects_run_in_the_same_folder_does_not_count(run):
    again = getting_further(run.parents[1])
    reach(run.with_name("other"), 100)
    assert ask(again)
    reach(run.with_name("other"), 200)
    assert not ask(again)


def test_a_users_error_is_the_end_at_once(run):
    again = getting_further(run.parents[1])
    reach(run, 2000)
    assert not ask(again, InputError("x is 3; allowed: 4"))


def test_the_other_stages_have_two_more_tries():
    assert stage_task("draw").retries == 2
    assert stage_task("train").retries > 1000
