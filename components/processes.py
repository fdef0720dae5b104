"""The one supervisor of child processes: nothing that is started here outlives its parent or its own end.

`python -m components.processes -- CMD…` is a small init: it adopts orphans (sub-reaper), is told when its parent dies,
starts CMD in a session of its own, passes SIGTERM and SIGINT on, and when CMD ends or the parent dies it ends every
descendant that is left, then exits with CMD's code (128 + n after signal n). run() and service() start it.
SIGHUP comes before SIGTERM where the parent or CMD is gone, so that it can be told from being asked to stop.
On systems other than Linux orphans are not adopted and a parent's death goes unseen; the rest holds.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

Argv = Sequence[str]
Sink = Callable[[str], None]
Env = Mapping[str, str] | None  # None: environment()
GRACE_S = 30.0  # between asking to end and ending by force: a training that is told to end saves first
SUPERVISED = "BESTIARY_SUPERVISED"  # in the environment of what an init ends
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DVC_NO_ANALYTICS": "1",
}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PIECE = re.compile(r"(.*?)(\r\n|\n|\r(?!$))", re.DOTALL)  # a final \r waits: it may be half of \r\n


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for a child: `python` is this interpreter, telemetry is off, output comes at once."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**TELEMETRY_OFF, **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **changes}


def free_port() -> int:
    """A TCP port on the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(argv: Argv, *, on_line: Sink, on_progress: Sink | None = None, env: Env = None, cwd: Path | None = None) -> int:
    """Runs a command to its end and returns its exit code (128 + n after signal n).

    Its stdout and stderr come merged: text ended by a newline goes to `on_line`, text ended by a carriage return
    (a progress bar) to `on_progress`. An exception in here, KeyboardInterrupt too, ends the command first.
    """
    with started(argv, env, cwd, subprocess.PIPE) as init:
        assert init.stdout is not None
        for text, is_line in _pieces(init.stdout):
            sink = on_line if is_line else on_progress
            if sink is not None:
                sink(text)
        return init.wait()


@contextlib.contextmanager
def service(
    argv: Argv, *, ready: Callable[[], bool], timeout_s: float, log: Path, env: Env = None, cwd: Path | None = None
) -> Iterator[None]:
    """Runs a server while the context lasts, entered when `ready()`; its output goes to the file `log`.

    Leave the context in the thread that entered it, as that of started().

    Raises:
        RuntimeError: the server ended before it was ready, or was not ready in time; with the end of its log.
    """
    with log.open("wb") as out, started(argv, env, cwd, out) as init:
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = init.poll()
            if code is not None or time.monotonic() > deadline:
                what = f"is not ready after {timeout_s:g} s" if code is None else f"ended with exit code {code}"
                tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
                raise RuntimeError(f"{shlex.join(argv)} {what}; the end of {log}:\n{tail}")
            time.sleep(0.05)
        yield


@contextlib.contextmanager
def started(argv: Argv, env: Env, cwd: Path | None, stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The command under an init that is away from the terminal, so that only its parent ends it.

    Leave the context in the thread that entered it: to the kernel a parent's death is that of the starting thread.
    """
    init = subprocess.Popen(
        [sys.executable, "-P", __file__, "--parent", str(os.getpid()), "--", *argv],
        env=environment() if env is None else env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with init:
        try:
            yield init
        finally:
            init.terminate()  # nothing if it has ended
            init.wait()


def _pieces(stream: IO[bytes]) -> Iterator[tuple[str, bool]]:
    """(text, whether a newline ended it), as they come."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        pending += decoder.decode(chunk)
        end = 0
        for match in _PIECE.finditer(pending):
            text, ending = match.groups()
            end = match.end()
            if ending != "\r" or text.strip():
                yield text, ending != "\r"
        pending = pending[end:]
    if pending.strip():
        yield pending.rstrip("\r"), True


def supervise(argv: Argv, parent: int) -> int:
    """Makes this process the init between `parent` and a command; returns the exit code to end with."""
    pid = 0  # the command's, and its process group's
    asked: list[int] = []

    def signal_command(signum: int) -> None:
        """Asks the command alone: what it has started is its own to end. By force: all of its group."""
        if pid:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if signum == signal.SIGKILL else os.kill)(pid, signum)

    def pass_on(signum: int, frame: object) -> None:
        if not asked:
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        asked.append(signum)
        signal_command(signum)
        if signum == signal.SIGHUP:
            signal_command(signal.SIGTERM)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, pass_on)
    signal.signal(signal.SIGALRM, lambda *_: signal_command(signal.SIGKILL))
    adopt()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    if os.getppid() != parent:  # it died before the kernel was asked to tell
        return 128 + signal.SIGHUP
    os.environ[SUPERVISED] = "1"
    try:
        command = subprocess.Popen(argv, start_new_session=True)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        return 127
    pid = command.pid
    for early in asked:  # between the handlers and now
        signal_command(early)
    ended, status = 0, 0
    while ended != pid:  # the others are adopted orphans
        ended, status = os.waitpid(-1, 0)
    pid = 0
    command.returncode = os.waitstatus_to_exitcode(status)
    end_descendants(told=signal.SIGTERM in asked or signal.SIGINT in asked)
    return command.returncode if command.returncode >= 0 else 128 - command.returncode


def adopt() -> None:
    """From now on a descendant whose parent dies becomes this process's child; on Linux."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(*, told: bool = True, spared: Collection[int] = ()) -> None:
    """Ends all that is left, wherever it moved: SIGTERM, patience, SIGKILL, and again for what they still start.

    SIGTERM goes to children alone: what they have started is theirs to end, and when they are gone becomes a child.

    Args:
        told: to stop; else SIGHUP comes first.
        spared: pids of children that are left alone, with all below them.
    """
    me = psutil.Process()
    gently = [signal.SIGTERM] if told else [signal.SIGHUP, signal.SIGTERM]
    for signums in (gently, [signal.SIGKILL]):
        deadline = time.monotonic() + GRACE_S
        asked: set[psutil.Process] = set()
        while time.monotonic() < deadline:
            children = [child for child in me.children() if child.pid not in spared]
            for child in children:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)
            left = {process for child in children for process in _family(child)}
            if not left:
                return
            now = set(children) if signums is gently else left
            for process in now - asked:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for signum in signums:
                        process.send_signal(signum)
            asked |= now
            time.sleep(0.01)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it; nothing if it is gone."""
    try:
        return [process, *process.children(recursive=True)] if process.is_running() else []
    except psutil.NoSuchProcess:
        return []


def _prctl(option: int, value: int) -> None:
    """Asks Linux for what only Linux has; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m components.processes")
    parser.add_argument("--parent", type=int, default=os.getppid(), help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+", metavar="CMD")
    options = parser.parse_args()
    sys.exit(supervise(options.command, options.parent))
