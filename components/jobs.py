"""Training as a Ray job that outlives whoever began it: submitted or attached to, its log shown, waited for, stopped.

A job's submission id is the key of its run, so a cluster has one at most. It runs pipelines/job.py on the head node,
which sees the checkout, and the Python that runs this, at the same paths. The job goes on when the stage that shows it
is killed or hung up (SIGKILL, SIGHUP), and ends when that is told to stop (SIGTERM, SIGINT).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from components.config import InputError, Params, UnavailableError, checked
from components.data.files import write_json
from components.training.ray_trainer import images_shown

Answer = TypeVar("Answer")
POLL_S = 1.0
ANSWER_S = 30.0  # for one answer of the head
PATIENCE_S = 300.0  # with a head that does not answer
STOP_S = 120  # for a job that is told to stop, until it is killed
ENVIRONMENT = {
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),  # Ray's own 3 s are too few to save in
    "TQDM_DISABLE": "1",  # a bar that is drawn for a week fills the head's disk
}


def see_through(params: Params, run: Path) -> None:
    """Has a run trained to its target by the cluster at execution.ray_address; returns when no job is at it.

    Raises:
        InputError: no Ray at the address, or the job ended with bad input.
        UnavailableError: the job failed, was stopped or lost, or the head has not answered for PATIENCE_S.
        SystemExit: with 143, after SIGTERM; KeyboardInterrupt goes on. The job has been told to stop.
    """
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # each stream of a log that ends
    address, head = params.execution.ray_address, None
    with _sigterm_raised():
        try:
            head = _Head(address, known=_begun_at(address, run))
            _see_through(head, params, run)
        except (KeyboardInterrupt, _ToldError) as told:
            if head:
                _stop(head, run.name)
            if isinstance(told, KeyboardInterrupt):
                raise
            sys.exit(128 + signal.SIGTERM)


def read(run: Path) -> Params:
    """The parameters that a run's job was submitted with.

    Raises:
        InputError: there are none, or other code wrote them.
    """
    file = run / "job.json"
    if not file.exists():
        raise InputError(f"{file} is not there; allowed: a run whose job was submitted, in this checkout")
    return checked(json.loads(file.read_text(encoding="utf-8")), str(file))


def _see_through(head: _Head, params: Params, run: Path) -> None:
    while True:
        job, before = head.job(run.name), images_shown(run)
        alive = job is not None and not job.status.is_terminal()
        if not alive and before >= params.train.total_kimg * 1000:
            return
        shown = len(head.log(run.name)) if job is not None else 0  # a job's log goes on that of the one before
        if alive or not _submit(head, params, run):
            print(f"run {run.name}: attached to its job at {head.address}", flush=True)
        _follow(head, run.name, shown)
        if not alive and images_shown(run) <= before:
            raise UnavailableError(f"{run} has nothing of what its job did; does {head.address} see this checkout?")


def _submit(head: _Head, params: Params, run: Path) -> bool:
    """Whether a new job was made: not so where another start was faster."""
    write_json(run / "job.json", params.as_dict())
    here = Path.cwd()
    env = ENVIRONMENT | {"PYTHONPATH": str(here)}
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        env["MLFLOW_TRACKING_URI"] = uri
    command = shlex.join([sys.executable, "-m", "pipelines.job", run.name])
    entrypoint = f"cd {shlex.quote(str(here))} && exec {command}"
    with contextlib.suppress(RuntimeError, OSError):  # no such job, or one that another start has just made
        head.client.delete_job(run.name)
    try:
        head.ask(
            lambda: head.client.submit_job(entrypoint=entrypoint, submission_id=run.name, runtime_env={"env_vars": env})
        )
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise
        return False
    print(f"run {run.name}: its job is submitted to {head.address}", flush=True)
    return True


def _follow(head: _Head, key: str, shown: int) -> None:
    """Shows the log of a job from character `shown` on, until the job has succeeded."""
    ended = threading.Event()
    log = threading.Thread(target=_show_log, args=(head.client, key, shown, ended), name="log", daemon=True)
    log.start()
    while (job := head.job(key)) is not None and not job.status.is_terminal():
        time.sleep(POLL_S)
    ended.set()
    if job is None:
        raise UnavailableError(f"{head.address} does not know the job of run {key} any more: it has begun anew")
    log.join(ANSWER_S)
    if job.status == JobStatus.FAILED:
        _fail(key, job, head.log(key)[shown:])
    if job.status == JobStatus.STOPPED:
        raise UnavailableError(f"the job of run {key} was stopped")


def _fail(key: str, job: Any, log: str) -> NoReturn:
    said = [line.removeprefix("error: ") for line in log.splitlines() if line.startswith("error: ")]
    if job.driver_exit_code == 2 and said:
        raise InputError(said[-1])
    message = str(job.message).partition(", last available logs")[0].strip()
    raise UnavailableError(f"the job of run {key} failed: {(said or message.splitlines())[-1]}")


def _show_log(client: Any, key: str, shown: int, ended: threading.Event) -> None:
    """Prints what a job says after the first `shown` characters, but for `error: …`, which the stage says itself."""

    async def tail() -> None:
        nonlocal shown
        passed, line = 0, ""
        async for text in client.tail_job_logs(key):  # always from the beginning
            line += text[max(shown - passed, 0) :]
            passed += len(text)
            shown = max(shown, passed)
            *whole, line = line.split("\n")
            for said in whole:
                if not said.startswith("error: "):
                    print(said, flush=True)

    while True:  # a head that goes away ends the stream too
        last = ended.is_set()
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            asyncio.run(tail())
            last = True
        if ended.wait(2 * POLL_S) and last:
            return


def _stop(head: _Head, key: str) -> None:
    """Tells a job to save and end, and waits for it."""
    print(f"run {key}: its job is told to stop", flush=True)
    try:
        head.ask(lambda: head.client.stop_job(key), patience_s=ANSWER_S)
        deadline = time.monotonic() + STOP_S + ANSWER_S
        while (job := head.job(key)) is not None and not job.status.is_terminal() and time.monotonic() < deadline:
            time.sleep(POLL_S)
    except UnavailableError as error:
        print(f"run {key}: its job may be running on: {error}", flush=True)
    except RuntimeError:
        return  # it was not submitted yet


class _ToldError(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def _sigterm_raised() -> Iterator[None]:
    def told(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise _ToldError

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _begun_at(address: str, run: Path) -> bool:
    """Whether a job of this run has been submitted there before."""
    with contextlib.suppress(InputError):
        return read(run).execution.ray_address == address
    return False


class _Head:
    """A cluster's dashboard, which takes jobs; it may be away for a while."""

    def __init__(self, address: str, known: bool) -> None:
        self.address = address
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # else RAY_ADDRESS would outdo the argument
        try:
            self.client = self.ask(partial(JobSubmissionClient, address), patience_s=PATIENCE_S if known else 0)
        except AuthenticationError:
            raise InputError(
                f"execution.ray_address is {address!r}, which wants a token; allowed: RAY_AUTH_MODE=token, and the "
                "cluster's token in RAY_AUTH_TOKEN or in the file of RAY_AUTH_TOKEN_PATH"
            ) from None
        except (UnavailableError, RuntimeError, KeyError):  # nothing, or something else than Ray
            if known:
                raise
            raise InputError(
                f"execution.ray_address is {address!r} and no Ray answers there; allowed: a running head's dashboard"
            ) from None
        # Ray's client would wait for ever for a host that is gone.
        self.client._do_request = partial(self.client._do_request, timeout=ANSWER_S)

    def ask(self, call: Callable[[], Answer], patience_s: float = PATIENCE_S) -> Answer:
        """An answer, waited for.

        Raises:
            RuntimeError: the head refuses.
            UnavailableError: there was no answer for `patience_s`.
        """
        deadline, said = time.monotonic() + patience_s, False
        while True:
            try:
                return call()
            except OSError as error:  # of requests too
                reason = type(error).__name__
            except RuntimeError as error:
                if "status code 5" not in str(error) or "already exists" in str(error):
                    raise
                reason = str(error)[:200]
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"the Ray head at {self.address} has not answered for {patience_s:g} s: {reason}"
                )
            if not said:
                print(f"the Ray head at {self.address} does not answer; trying for {patience_s:g} s", flush=True)
                said = True
            time.sleep(POLL_S)

    def job(self, key: str) -> Any:
        """What the head knows of a job, or None where it knows none."""
        return self._or_none(lambda: self.client.get_job_info(key))

    def log(self, key: str) -> str:
        """All that a job has said, and those before it by its name."""
        return self._or_none(lambda: self.client.get_job_logs(key)) or ""

    def _or_none(self, call: Callable[[], Answer]) -> Answer | None:
        try:
            return self.ask(call)
        except RuntimeError as error:
            if "status code 404" not in str(error):
                raise
            return None
