"""The gate: what a generator must show to become the champion, each condition checked by MLflow's own thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import validate_evaluation_results
from mlflow.models import EvaluationResult, MetricThreshold
from mlflow.models.evaluation.validation import ModelValidationFailedException

from components.config import Gate

MUST_BEAT = ("untrained", "mean_image", "repeated_image")  # where there is no champion
Numbers = Mapping[str, Mapping[str, float]]  # metrics.json


@dataclass(frozen=True)
class Check:
    """One condition."""

    name: str  # "coverage", a baseline's name, "champion v2"
    value: float
    allowed: str  # "at least 0.1", "below 3.9: 4.4 less 0.5", or why nothing can be allowed
    passed: bool


@dataclass(frozen=True)
class Rival:
    """The champion, measured on the same bench; or why it cannot be."""

    version: int
    value: float = math.nan  # of the deciding distance
    margin: float = math.nan  # half of its interval
    reason: str = ""


def judge(numbers: Numbers, metric: str, gate: Gate, champion: Rival | None) -> list[Check]:
    """All conditions: few copies, enough coverage, no collapse; better than the champion or, without, the baselines.

    Better is better by more than chance: by the half-widths of both intervals, added in squares. A baseline has none.

    Args:
        metric: the name of the distance that decides, in numbers["holdout"].
    """
    holdout, own = numbers["holdout"], margin(numbers, metric)
    checks = [
        _at_most("memorised", numbers["memorisation"]["share"], gate.max_memorised),
        _at_least("coverage", holdout["coverage"], gate.min_coverage * numbers["holdout_floor"]["coverage"]),
        _at_most("collapse alarm", numbers["collapse"]["alarm"], 0.0),
    ]
    if champion is None:
        baselines = numbers["holdout_baselines"]
        return checks + [_below(name, holdout[metric], baselines[name], own) for name in MUST_BEAT]
    name = f"champion v{champion.version}"
    if champion.reason:
        return [*checks, Check(name, holdout[metric], champion.reason, passed=False)]
    return [*checks, _below(name, holdout[metric], champion.value, math.hypot(own, champion.margin))]


def margin(numbers: Numbers, metric: str) -> float:
    """Half of the interval of the deciding distance."""
    return (numbers["holdout_high"][metric] - numbers["holdout_low"][metric]) / 2


def table(title: str, checks: list[Check]) -> str:
    """The verdict as Markdown, for reports/ and for Prefect."""
    rows = [f"| {check.name} | {check.value:.4g} | {check.allowed} | {_word(check)} |" for check in checks]
    head = ["| condition | value | allowed | |", "|---|---:|---|---|"]
    return "\n".join([title, "", *([*head, *rows] if checks else ["A person named it."]), ""])


def _word(check: Check) -> str:
    return "passed" if check.passed else "**not passed**"


def _at_most(name: str, value: float, limit: float) -> Check:
    threshold = MetricThreshold(threshold=limit, greater_is_better=False)
    return Check(name, value, f"at most {limit:g}", _passes(value, threshold))


def _at_least(name: str, value: float, limit: float) -> Check:
    threshold = MetricThreshold(threshold=limit, greater_is_better=True)
    return Check(name, value, f"at least {limit:g}", _passes(value, threshold))


def _below(name: str, value: float, other: float, by: float) -> Check:
    threshold = MetricThreshold(min_absolute_change=max(by, math.ulp(other)), greater_is_better=False)
    return Check(
        name, value, f"at most {other - by:.4g}, which is {other:.4g} less {by:.3g}", _passes(value, threshold, other)
    )


def _passes(value: float, threshold: MetricThreshold, baseline: float | None = None) -> bool:
    against = None if baseline is None else EvaluationResult({"value": baseline}, {})
    try:
        validate_evaluation_results({"value": threshold}, EvaluationResult({"value": value}, {}), against)
    except ModelValidationFailedException:
        return False
    return True
