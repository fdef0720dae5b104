"""components/processes.py: what is started under it ends with it, wherever it hides, and its words come through."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components import processes
from tests.conditions import until

PROCESSES = Path(processes.__file__)
SLEEPER = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
DAEMON = "import os, sys\nif os.fork(): sys.exit()\nos.setsid()\nif os.fork(): os._exit(0)\n" + SLEEPER
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER


def pid_in(path):
    return until(lambda: path.exists() and path.read_text()) and int(path.read_text())


def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def under_init(*argv):
    """The command line's init, as a shell starts it."""
    return subprocess.Popen([sys.executable, PROCESSES, "--", *argv])


@pytest.mark.parametrize(
    ("code", "expected"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_exit_code_is_passed_on(code, expected):
    assert processes.run(["sh", "-c", code], on_line=print) == expected


def test_a_missing_command_is_one_line_and_127():
    lines = []
    assert processes.run(["no-such-command"], on_line=lines.append) == 127
    assert lines == ["no-such-command: No such file or directory"]


def test_lines_and_progress_are_told_apart():
    lines, bars = [], []
    code = (
        "import sys; w = lambda t: (sys.stdout.buffer.write(t.encode()), sys.stdout.flush())\n"
        "w('one\\nwindows\\r\\n\\n'); w('\\r 10%\\r 20%'); w('\\r é100%\\n')\n"
        "sys.stderr.write('error: x\\n'); w('no end')"
    )
    assert processes.run(python(code), on_line=lines.append, on_progress=bars.append) == 0
    assert lines == ["one", "windows", "", " é100%", "error: x", "no end"]
    assert bars == [" 10%", " 20%"]


def test_environment_has_this_python_first_and_telemetry_off(monkeypatch):
    monkeypatch.delenv("DVC_NO_ANALYTICS", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    environment = processes.environment(EXTRA="x")
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert (environment["DVC_NO_ANALYTICS"], environment["DO_NOT_TRACK"], environment["EXTRA"]) == ("1", "1", "x")


def test_what_the_command_leaves_behind_ends_with_it(tmp_path):
    """A daemon (double fork, session of its own) holds the output open: run() returns all the same."""
    wait = f"\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)"
    start = f"import os, subprocess, sys, time; subprocess.Popen({python(DAEMON, tmp_path / 'pid')!r})" + wait
    assert processes.run(python(start), on_line=print) == 0
    assert gone(pid_in(tmp_path / "pid"))


def test_killing_the_supervising_parent_takes_the_grandchildren(tmp_path):
    command = python(f"import subprocess; subprocess.run({python(SLEEPER, tmp_path / 'pid')!r})")
    parent = subprocess.Popen(
        python(f"from components import processes; processes.run({command!r}, on_line=print)"),
        cwd=PROCESSES.parents[1],
    )
    grandchild = pid_in(tmp_path / "pid")
    family = psutil.Process(parent.pid).children(recursive=True)
    assert grandchild in [process.pid for process in family]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: all(gone(process.pid) for process in family))


def test_a_signal_reaches_the_command_and_its_code_comes_back(tmp_path):
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n" + SLEEPER
    init = under_init(*python(code, tmp_path / "pid"))
    pid_in(tmp_path / "pid")
    init.send_signal(signal.SIGINT)
    assert init.wait(20) == 5


@pytest.mark.parametrize(("end", "heard"), [("parent", "1 15 "), ("command", "1 15 "), ("asked", "15 ")])
def test_hung_up_and_asked_to_stop_are_told_apart(tmp_path, end, heard):
    """What a grandchild hears when the parent is killed, when its own parent is, and when the init is asked to end."""
    code = (
        "import os, pathlib, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, {1, 15})\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\nsignum = 0\nwhile signum != 15:\n"
        "    signum = signal.sigwait({1, 15})\n    open(sys.argv[2], 'a').write(f'{signum} ')\n"
    )
    grandchild = python(code, tmp_path / "pid", tmp_path / "heard")
    command = python(f"import subprocess; subprocess.run({grandchild!r}, start_new_session=True)")
    run = f"from components import processes; processes.run({command!r}, on_line=print)"
    parent = subprocess.Popen(python(run), cwd=PROCESSES.parents[1])
    pid = pid_in(tmp_path / "pid")
    init = psutil.Process(parent.pid).children()[0]
    if end == "parent":
        parent.kill()
    elif end == "command":
        init.children()[0].kill()
    else:
        init.terminate()
    until(lambda: gone(pid) and gone(init.pid))
    parent.kill()
    parent.wait()
    assert (tmp_path / "heard").read_text() == heard


def test_what_does_not_listen_is_killed_after_the_grace(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(PROCESSES.parents[1])!r})\nfrom components import processes\n"
    code += "import os; processes.GRACE_S = 0.2\n"
    code += f"sys.exit(processes.supervise({python(STUBBORN, tmp_path / 'pid')!r}, os.getppid()))"
    init = subprocess.Popen(python(code))
    stubborn = pid_in(tmp_path / "pid")
    init.terminate()
    assert init.wait(20) == 128 + signal.SIGKILL
    assert gone(stubborn)


def test_an_exception_in_a_callback_ends_the_command(tmp_path):
    def refuse(line):
        raise KeyboardInterrupt(line)

    code = SLEEPER.replace("time.sleep", "print('hello', flush=True); time.sleep")
    with pytest.raises(KeyboardInterrupt, match="hello"):
        processes.run(python(code, tmp_path / "pid"), on_line=refuse)
    assert gone(pid_in(tmp_path / "pid"))


def test_a_service_stops_with_its_context_daemons_included(tmp_path):
    pid = tmp_path / "pid"
    server = f"import subprocess, time; subprocess.Popen({python(DAEMON, pid)!r}); time.sleep(600)"
    with processes.service(python(server), ready=pid.exists, timeout_s=120, log=tmp_path / "log"):
        daemon = pid_in(pid)
        assert not gone(daemon)
    assert gone(daemon)


def test_a_service_that_ends_early_says_so_with_its_log(tmp_path):
    command = python("print('port is taken'); raise SystemExit(3)")
    never = processes.service(command, ready=lambda: False, timeout_s=120, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)ended with exit code 3.*port is taken"), never:
        pass


def test_a_service_that_is_never_ready_is_stopped(tmp_path):
    command = python(SLEEPER, tmp_path / "pid")
    never = processes.service(command, ready=lambda: False, timeout_s=1, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match="not ready after 1 s"), never:
        pass
    pid = tmp_path / "pid"  # not there, or empty, if it was stopped before it wrote
    assert not pid.exists() or not pid.read_text() or gone(pid_in(pid))


def test_a_free_port_can_be_bound():
    assert 1024 <= processes.free_port() < 65536
