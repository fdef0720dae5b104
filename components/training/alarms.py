"""Alarms: collapse, runaway augmentation, a slow worker, as a function of the lines that a run writes; it goes on.

A tick is a line of metrics.jsonl, an exam one of evaluations.jsonl: a snapshot that was measured.
What is seen in ticks rings when WINDOW of them in a row show it and is over when none of so many does; what is seen in
exams, which have intervals, rings with one and is over with the next that does not show it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.config import Train
from components.config.training import UNSIGNED
from components.data.files import read_json_lines

COLLAPSE, AUGMENTATION, STRAGGLER = "collapse", "augmentation", "straggler"
Line = Mapping[str, Any]

# What they were set on is in docs/evaluation.md.
WINDOW = 10  # ticks
SAMPLE_STD = 0.3  # of the reals'; healthy runs: 0.5 to 1 at the grid's psi 0.7
SIGN = 0.9  # of D on reals, and its negative on fakes
AT_CAP = 0.02  # as near to train.augment.max_p
SLOWDOWN = 3.0  # of the slowest worker's own part of the steps, as a share of the others'
LEARNT = 0.3  # precision from which on few reals reached are a collapse, not a beginning
COVERAGE = 0.5  # of the best exam's coverage before


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One alarm.

    Attributes:
        kind: COLLAPSE, AUGMENTATION or STRAGGLER.
        nimg: images shown when it rang.
        over: and when it was over; None while it is not.
    """

    kind: str
    nimg: int
    reason: str
    over: int | None = None

    def __str__(self) -> str:
        since = f"since {self.nimg / 1000:g} kimg: {self.reason}"
        return since if self.over is None else f"over at {self.over / 1000:g} kimg, was {since}"


def alarms(ticks: Iterable[Line], exams: Iterable[Line], train: Train) -> list[Alarm]:
    """All alarms of a run so far, in the order in which they rang.

    Args:
        ticks: by nimg.
        exams: those that another yardstick than the last one's has measured are left out.
    """
    exams = list(exams)
    exams = [exam for exam in exams if exam["yardstick"] == exams[-1]["yardstick"]]
    lines = sorted([*ticks, *exams], key=lambda line: line["nimg"])
    symptoms: list[_InTicks | _InExams] = [
        _InTicks(COLLAPSE, lambda tick: tick["sample_std"] < SAMPLE_STD, _repeats),
        _InTicks(STRAGGLER, lambda tick: tick.get("slowdown", 1.0) > SLOWDOWN, _is_slow),
        _InExams(COLLAPSE, _fallen),
        _InExams(COLLAPSE, _lost),
    ]
    if train.arch not in UNSIGNED:
        symptoms.append(_InTicks(COLLAPSE, lambda tick: min(tick["sign_real"], -tick["sign_fake"]) > SIGN, _tells_all))
    augment = train.augment
    if augment.kind == "ada" and augment.target > 0:
        symptoms.append(_InTicks(AUGMENTATION, lambda tick: tick["augment_p"] > augment.max_p - AT_CAP, _at_cap))
    found: list[Alarm] = []
    for line in lines:
        for symptom in symptoms:
            symptom.take(line, found)
    return sorted(found, key=lambda alarm: alarm.nimg)


class Alarms:
    """The alarms of a run's files: said once each, and as text by kind."""

    def __init__(self, run: Path, train: Train) -> None:
        self._run, self._train = run, train
        self._said: set[Alarm] = set()

    def read(self) -> list[Alarm]:
        """All so far."""
        ticks, exams = (read_json_lines(self._run / f"{name}.jsonl") for name in ("metrics", "evaluations"))
        return alarms(ticks, exams, self._train)

    def announce(self) -> None:
        """Prints a line for each that rings or is over since the last call."""
        for alarm in self.read():
            if alarm not in self._said:
                print(f"alarm: {alarm.kind} {alarm}")
                self._said.add(alarm)

    def tags(self) -> dict[str, str]:
        """By kind: what rings, or else what rang last, or else nothing."""
        found = sorted(self.read(), key=lambda alarm: (alarm.over is None, alarm.over or alarm.nimg))
        return {COLLAPSE: "", AUGMENTATION: "", STRAGGLER: ""} | {alarm.kind: str(alarm) for alarm in found}


class _Symptom:
    """One thing to see, and the alarm that it rings."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._at: int | None = None  # of its alarm, in what was found

    def _ring(self, reason: str, line: Line, found: list[Alarm]) -> None:
        if self._at is None:
            self._at = len(found)
            found.append(Alarm(kind=self._kind, nimg=line["nimg"], reason=reason))

    def _end(self, line: Line, found: list[Alarm]) -> None:
        if self._at is not None:
            found[self._at] = replace(found[self._at], over=line["nimg"])
            self._at = None


class _InTicks(_Symptom):
    def __init__(self, kind: str, shows: Callable[[Line], bool], reason: Callable[[list[Line]], str]) -> None:
        super().__init__(kind)
        self._shows, self._reason = shows, reason
        self._window: deque[Line] = deque(maxlen=WINDOW)

    def take(self, line: Line, found: list[Alarm]) -> None:
        if "holdout" in line:
            return
        self._window.append(line)
        shown = sum(map(self._shows, self._window))
        if shown == WINDOW:
            self._ring(self._reason(list(self._window)), line, found)
        elif shown == 0:
            self._end(line, found)


class _InExams(_Symptom):
    def __init__(self, kind: str, reason: Callable[[Line, list[Line]], str]) -> None:
        super().__init__(kind)
        self._reason = reason
        self._before: list[Line] = []

    def take(self, line: Line, found: list[Alarm]) -> None:
        if "holdout" not in line:
            return
        if reason := self._reason(line, self._before):
            self._ring(reason, line, found)
        else:
            self._end(line, found)
        self._before.append(line)


def _mean(ticks: list[Line], name: str) -> float:
    return float(sum(tick[name] for tick in ticks) / len(ticks))


def _repeats(ticks: list[Line]) -> str:
    return f"samples vary {_mean(ticks, 'sample_std'):.2f} times as much as reals; allowed: {SAMPLE_STD:g} or more"


def _tells_all(ticks: list[Line]) -> str:
    real, fake = (_mean(ticks, f"sign_{name}") for name in ("real", "fake"))
    return f"D tells all reals from all fakes: signs {real:+.2f} {fake:+.2f}"


def _at_cap(ticks: list[Line]) -> str:
    p, real = (_mean(ticks, name) for name in ("augment_p", "sign_real"))
    return f"p stays at its cap, {p:.2f}, and D's sign on reals at {real:+.2f}"


def _is_slow(ticks: list[Line]) -> str:
    return f"worker {ticks[-1]['slowest_worker']} takes {_mean(ticks, 'slowdown'):.1f} times as long as the others"


def _fallen(exam: Line, before: list[Line]) -> str:
    """The exam's own reason, once samples looked real or there was a snapshot without one."""
    learnt = exam["holdout"]["precision"] >= LEARNT or any(not one["collapse_reason"] for one in before)
    return str(exam["collapse_reason"]) if learnt else ""


def _lost(exam: Line, before: list[Line]) -> str:
    """Coverage far below the best before, beyond both intervals."""
    best = max(before, key=lambda one: float(one["holdout_low"]["coverage"]), default=exam)
    if exam["holdout_high"]["coverage"] >= COVERAGE * best["holdout_low"]["coverage"]:
        return ""
    now, then = (one["holdout"]["coverage"] for one in (exam, best))
    return f"coverage fell to {now:.2f} from {then:.2f} at {best['kimg']:g} kimg"
