"""flows/alerts.py: the template is what Prefect takes, and what cannot be set up is one line."""

import uuid
from datetime import timedelta

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from components.config import InputError, UnavailableError
from flows import events
from flows.alerts import automations, check_all, set_up

URL, NOBODY = "http://127.0.0.1:1/hook", "http://127.0.0.1:1/api"


def test_the_template_has_the_webhook_the_times_and_the_names_of_our_events():
    block = uuid.uuid4()
    needed, stuck, worse = automations(str(block), 45, 4)
    assert {action.block_document_id for alert in (needed, stuck, worse) for action in alert.actions} == {block}
    assert needed.trigger.expect == {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Suspended")}
    assert stuck.trigger.within == timedelta(minutes=45)
    assert stuck.trigger.after == {events.PROGRESS} <= stuck.trigger.expect
    assert events.ENDED in stuck.trigger.expect
    assert worse.trigger.expect == {events.EVALUATION}
    assert worse.trigger.match.model_dump()[events.WORSE] == "4"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("ftp://host", 60, 3), "webhook is 'ftp://host'; allowed: http://… or https://…"),
        (("example.org", 60, 3), "webhook is 'example.org'; allowed"),
        (("https://[h", 60, 3), r"webhook is 'https://\[h'; allowed"),
        ((URL, 1.5, 3), "minutes is 1.5; allowed: 2 or more"),
        ((URL, float("nan"), 3), "minutes is nan; allowed"),
        ((URL, 60, 0), "evaluations is 0; allowed: 1 or more"),
    ],
)
def test_what_cannot_be_set_up_is_refused(given, message):
    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(InputError, match=message):
        check_all(*given)


def test_without_a_server_nothing_is_set_up():
    with pytest.raises(InputError, match="PREFECT_API_URL is None; allowed: the address of a Prefect server"):
        check_all(URL, 60, 3)
    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(UnavailableError, match=f"{NOBODY} does not"):
        set_up(URL, 60, 3)
