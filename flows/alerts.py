"""`python -m flows.alerts --webhook URL`: sets up the alerts of alerts.yaml on a Prefect server, or changes them."""

from __future__ import annotations

import argparse
import string
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL
from prefect.types import SecretDict
from pydantic import SecretStr

from components.config import InputError, UnavailableError
from components.config.checks import check

TEMPLATE = Path(__file__).with_name("alerts.yaml")
BLOCK, JSON = "bestiary-alerts", SecretDict({"Content-Type": "application/json"})
MINUTES = 60.0  # twice execution.hang_s, after which a run helps itself
EVALUATIONS = 3
LEAST_MINUTES = 2.0  # progress is told once a minute


def main() -> int:
    """Says what was set up; returns the exit code: 2 for a user's error, 1 where Prefect does not answer."""
    parser = argparse.ArgumentParser(prog="python -m flows.alerts", description=__doc__.partition("\n")[0])
    parser.add_argument("--webhook", required=True, metavar="URL", help="where alerts are posted to, as JSON")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="without progress")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="in a row that are no better")
    flags = parser.parse_args()
    try:
        check_all(flags.webhook, flags.minutes, flags.evaluations)
        for name in set_up(flags.webhook, flags.minutes, flags.evaluations):
            print(f"set up: {name}")
    except (InputError, UnavailableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def check_all(webhook: str, minutes: float, evaluations: int) -> None:
    """Refuses what cannot be set up.

    Raises:
        InputError: names it.
    """
    server = PREFECT_API_URL.value()
    check(_is_address(webhook), "webhook", webhook, "http://… or https://…")
    check(minutes >= LEAST_MINUTES, "minutes", minutes, f"{LEAST_MINUTES:g} or more")
    check(evaluations >= 1, "evaluations", evaluations, "1 or more")
    check(bool(server), "PREFECT_API_URL", server, "the address of a Prefect server")


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def set_up(webhook: str, minutes: float, evaluations: int) -> list[str]:
    """Makes the webhook's block and the automations, or brings those of the same names up to date. Returns the names.

    Raises:
        InputError: something else than a Prefect server answers.
        UnavailableError: the Prefect server does not answer.
    """
    try:
        block = Webhook(url=SecretStr(webhook), headers=JSON).save(BLOCK, overwrite=True)
        alerts = automations(str(block), minutes, evaluations)
        with get_client(sync_client=True) as client:
            for alert in alerts:
                known = client.read_automations_by_name(alert.name)
                if known:
                    client.update_automation(known[0].id, alert)
                else:
                    client.create_automation(alert)
    except httpx.HTTPStatusError as error:
        told = f"PREFECT_API_URL is {PREFECT_API_URL.value()!r}, which answers {error.response.status_code}"
        raise InputError(f"{told}; allowed: the address of a Prefect server's API") from None
    except (httpx.TransportError, RuntimeError) as error:
        raise UnavailableError(f"Prefect at {PREFECT_API_URL.value()} does not answer: {error}") from None
    return [alert.name for alert in alerts]


def automations(block: str, minutes: float, evaluations: int) -> list[AutomationCore]:
    """Those of the template.

    Args:
        block: the id of a Webhook block.
    """
    values = {"webhook": block, "minutes": f"{minutes:g}", "seconds": minutes * 60, "evaluations": evaluations}
    content = string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    return [AutomationCore.model_validate(entry) for entry in yaml.safe_load(content)]


if __name__ == "__main__":
    sys.exit(main())
