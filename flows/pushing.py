"""After a chain: its outputs, and DVC's records of what made them, go to the default remote, once it answers."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.commands import python
from flows.retries import is_crash

DELAYS_S = [10.0, 60.0, 300.0, 900.0, 1800.0]  # between tries: an outage of most of an hour


@task(
    name="push",
    task_run_name="push",
    retries=len(DELAYS_S),
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=is_crash,
    cache_policy=NO_CACHE,
)
def push() -> None:
    """`dvc push --run-cache`: a clone without dvc.lock can have the outputs too, by params and code.

    Raises:
        StageError: the remote does not take them; retried.
    """
    python("dvc", "push", "--run-cache")
