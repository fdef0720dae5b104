"""A person's yes or no to a version that has passed the gate: once, with who, when and why, as tags of the version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient

from components.config import InputError
from components.config.checks import check
from components.tracking.gate import Check
from components.tracking.registry import APPROVED, CHAMPION, DECISION, DECLINED, VERDICT

BY, AT, NOTE = "bestiary.decided_by", "bestiary.decided_at", "bestiary.decision_note"
MAX_LETTERS = 1000
WAITS = "waits for a person: python -m pipelines.promote yes --by NAME, or no"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person has decided."""

    answer: str  # approved, declined
    by: str
    at: str  # UTC, ISO 8601
    note: str

    def __str__(self) -> str:
        return f"{self.answer} by {self.by} at {self.at}" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a version is on the way to its alias."""

    waits: bool  # for a person
    decision: str  # that it waits, what the person decided, or ""

    @property
    def clause(self) -> str:
        """The same as the end of a sentence."""
        return self.decision and f"; {self.decision}"


def decision(model: str, version: str) -> Decision | None:
    """The one that was made on a version."""
    tags = MlflowClient().get_model_version(model, version).tags
    if DECISION not in tags:
        return None
    return Decision(answer=tags[DECISION], by=tags[BY], at=tags[AT], note=tags[NOTE])


def status(model: str, version: str, alias: str, checks: list[Check]) -> Status:
    """What is to be said of a version that has just been judged.

    Args:
        alias: what the judgement made of it.
        checks: the verdict.
    """
    made = decision(model, version)
    if made:
        return Status(waits=False, decision=str(made))
    waits = alias != CHAMPION and all(condition.passed for condition in checks)
    return Status(waits=waits, decision=WAITS if waits else "")


def decide(model: str, version: str, *, approve: bool, by: str, note: str) -> Decision:
    """Records a decision, which the register stage then applies; the same one again changes nothing.

    Returns:
        The decision that stands: the first one.

    Raises:
        InputError: the version has not passed the gate, is the champion already, or was decided on otherwise; or name
            or note are not what a tag can hold.
    """
    check(0 < len(by) <= MAX_LETTERS, "by", by, f"1 to {MAX_LETTERS} letters")
    check(len(note) <= MAX_LETTERS, "note", note, f"at most {MAX_LETTERS} letters")
    client, uri = MlflowClient(), f"models:/{model}/{version}"
    answer, made = APPROVED if approve else DECLINED, decision(model, version)
    if made:
        if made.answer != answer:
            raise InputError(f"{uri} is {made}; allowed: one decision a version (MLflow moves aliases by hand)")
        return made
    if str(client.get_registered_model(model).aliases.get(CHAMPION)) == version:
        raise InputError(f"{uri} is the {CHAMPION}; allowed: a version that waits for a person")
    verdict = client.get_model_version(model, version).tags.get(VERDICT, "not judged")
    if verdict != "passed":
        raise InputError(f"{uri} is {verdict}; allowed: a version that has passed the gate")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for tag, value in {BY: by, AT: at, NOTE: note, DECISION: answer}.items():  # the last one makes it a decision
        client.set_model_version_tag(model, version, tag, value)
    return Decision(answer=answer, by=by, at=at, note=note)
