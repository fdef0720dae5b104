"""flows/keeping.py: what dies is started again, and what dies again and again is given up."""

import re
import sys

import psutil
import pytest

from components import processes
from flows import keeping
from flows.keeping import Keeper, Service, ServiceError
from tests.conditions import until


def service(code, ready):
    return Service(name="toy", argv=[sys.executable, "-c", code], env={}, ready=ready)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A keeper without the handling of signals, which belongs to a process of its own; spares what was there."""
    others, end = [child.pid for child in psutil.Process().children()], processes.end_descendants

    def spare(*, told=True, spared=()):
        end(told=told, spared=[*others, *spared])

    monkeypatch.setattr(processes, "end_descendants", spare)
    made = Keeper(tmp_path)
    yield made
    made.stop()


def test_what_never_lives_is_given_up_with_one_line_that_says_where_to_look(kept, tmp_path, capsys):
    with pytest.raises(ServiceError) as caught:
        kept.start(service("print('too bad'); raise SystemExit(3)", ready=lambda: False))
    assert str(caught.value) == f"toy ended with exit code 3, 5 times in a row; see {tmp_path / 'toy.log'}"
    assert (tmp_path / "toy.log").read_text() == "too bad\n" * 5
    again = f"toy ended with exit code 3 and is started again; see {tmp_path / 'toy.log'}\n"
    assert capsys.readouterr().out == again * 4


def test_one_that_had_lived_long_has_all_its_tries_again(kept, tmp_path, monkeypatch):
    """With 0 s to live, every death is the first one."""
    monkeypatch.setattr(keeping, "STEADY_S", 0.0)
    log = tmp_path / "toy.log"

    def lives():
        return log.read_text().count("life")

    kept.start(service("print('life')", ready=lambda: True))
    until(lambda: kept.look() or lives() > 2 * keeping.TRIES)


def test_one_that_does_not_answer_in_time_is_given_up(kept, monkeypatch):
    monkeypatch.setattr(keeping, "START_S", 0.1)
    with pytest.raises(ServiceError, match=re.escape("toy does not answer after 0.1 s; see ")):
        kept.start(service("import time; time.sleep(600)", ready=lambda: False))


def test_servers_are_not_what_a_supervisor_left(tmp_path, kept):
    """Ending what one left behind spares the others."""
    up = tmp_path / "up"
    code = f"import pathlib, time; pathlib.Path({str(up)!r}).touch(); time.sleep(600)"
    kept.start(service(code, ready=up.exists))
    processes.end_descendants(spared=[entry.init.pid for entry in kept._kept])
    assert kept._kept[0].ended() is None
