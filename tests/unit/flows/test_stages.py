"""flows/stages.py: stages come from the file, and dvc's words are told apart as a user's error or a crash."""

from types import SimpleNamespace

import pytest

from components.config import InputError
from flows.retries import is_crash
from flows.stages import StageError, failure, stage_names, stage_task

FAILED = "ERROR: failed to reproduce 'draw': "


def test_stages_are_those_of_the_file_in_its_order(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages:\n  z: {cmd: a}\n  a: {cmd: b}\n  m: {cmd: c}\n")
    assert stage_names(tmp_path / "dvc.yaml") == ["z", "a", "m"]


def test_the_task_has_the_stages_name():
    task = stage_task("draw")
    assert (task.name, task.task_run_name) == ("draw", "draw")


@pytest.mark.parametrize(
    ("complaints", "kind", "message"),
    [
        (
            ["error: first", "error: x is 3; allowed: 4", FAILED + "failed to run: python -m a, exited with 2"],
            InputError,
            "x is 3; allowed: 4",
        ),
        (
            [FAILED + "failed to run: python -m a, exited with 2"],
            InputError,
            "stage draw: failed to reproduce 'draw': failed to run: python -m a, exited with 2",
        ),
        (
            [FAILED + "[Errno 2] No such file or directory: '/a/b c'"],
            InputError,
            "stage draw: No such file or directory: /a/b c",
        ),
        ([FAILED + "[Errno 13] Permission denied: '/a'"], InputError, "stage draw: Permission denied: /a"),
        ([FAILED + "missing data 'source': art"], InputError, "stage draw: missing data 'source': art"),
        (
            ["error: x", FAILED + "failed to run: python -m a, exited with 1"],
            StageError,
            "stage draw: failed to reproduce 'draw': failed to run: python -m a, exited with 1",
        ),
        (
            [FAILED + "failed to run: python -m a, exited with -9"],
            StageError,
            "stage draw: failed to reproduce 'draw': failed to run: python -m a, exited with -9",
        ),
        (
            [FAILED + "output 'data' does not exist"],
            StageError,
            "stage draw: failed to reproduce 'draw': output 'data' does not exist",
        ),
        ([FAILED + "[Errno 28] No space left on device: '/a'"], StageError, None),
        ([], StageError, "stage draw: dvc ended with exit code 137"),
    ],
)
def test_a_failure_is_the_users_or_a_crash(complaints, kind, message):
    error = failure("draw", 137, complaints)
    assert type(error) is kind
    assert message is None or str(error) == message


@pytest.mark.parametrize(("error", "again"), [(InputError("x"), False), (StageError("x"), True), (OSError(), True)])
def test_only_a_users_error_is_not_tried_again(error, again):
    assert is_crash(None, None, SimpleNamespace(data=error)) is again
