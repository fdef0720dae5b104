"""Work over processes: in order, bounded ahead, through the death of workers, and with no one left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import psutil
import pytest

from components.config import InputError
from components.executor import AHEAD, WorkerKilledError, executor, inline
from tests.tasks import kill_once, refuse

WORKERS = len(os.sched_getaffinity(0))


def square(number):
    return number * number


def kill_always(_):
    os.kill(os.getpid(), signal.SIGKILL)


def threads(_):
    return os.environ["OPENBLAS_NUM_THREADS"]


@pytest.fixture
def spread():
    with executor(preload="components.executor") as spread:
        yield spread


def test_results_come_in_order(spread):
    assert list(spread(square, range(50))) == [n * n for n in range(50)] == list(inline(square, range(50)))
    assert list(spread(threads, [0])) == ["1"]


def test_tasks_are_taken_only_as_results_are(spread):
    taken = []
    results = spread(square, (taken.append(n) or n for n in range(1000)))
    for count in range(1, 20):
        next(results)
        assert len(taken) <= count + AHEAD * WORKERS
    results.close()


def test_a_killed_worker_costs_its_tasks_alone(spread, tmp_path):
    assert list(spread(partial(kill_once, folder=tmp_path), range(30))) == list(range(30))
    assert len(list(tmp_path.iterdir())) == 5


def test_a_task_that_kills_every_worker_ends_the_work(spread):
    with pytest.raises(WorkerKilledError, match="killed 4 times") as caught:
        list(spread(kill_always, [1]))
    assert caught.value.task == 1


def test_what_a_task_raises_is_raised(spread):
    with pytest.raises(InputError, match="3 is not wanted"):
        list(spread(refuse, [3]))


def test_no_worker_outlives_a_killed_parent(tmp_path):
    code = """
        import sys, time
        from components.executor import executor
        if __name__ == "__main__":
            with executor(preload="components.executor") as spread:
                results = spread(time.sleep, [0, 0, 0, 0, *[3600] * 4])
                next(results), next(results)
                print("ready", flush=True)
                next(results), next(results), next(results)
    """
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(code))
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as parent:
        assert parent.stdout.readline() == b"ready\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
