"""A store that will not do for the copy of a run is said before the training."""

from pathlib import Path

import pytest

from components.config import InputError
from components.training.backup import check
from tests.copies import ADDRESS, answer

ROOT = Path(__file__).parents[3]
PART = 8 * 2**20


def test_check_leaves_nothing(store, through):
    seen = through(lambda _, headers, body: (headers, body, False)).seen
    check("s3://art/runs")
    check("s3://art")
    assert "Contents" not in store.list_objects_v2(Bucket="art")
    assert {"PUT", "GET", "DELETE"} <= {command for command, _, _ in seen}


def refusal(address):
    with pytest.raises(InputError) as caught:
        check(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "art/runs", "s3://", "s3:///runs", "file:///runs", "s3://art/a b", "s3://a,b/runs"]
)
def test_a_malformed_address_is_said(address):
    assert refusal(address) == f"execution.backup is {address!r}; allowed: s3://bucket/prefix"


def test_no_such_bucket_is_said(store):
    assert "names no bucket that is there; allowed: " in refusal("s3://nobody/runs")


@pytest.mark.parametrize("command", ["PUT", "GET", "DELETE"])
def test_what_the_credentials_may_not_do_is_said(store, through, command):
    through(
        lambda handler, *rest: answer(handler, 403, "AccessDenied") if handler.command == command else (*rest, False)
    )
    words = refusal(ADDRESS)
    assert words.startswith("execution.backup: 's3://art/runs/round-trip-")
    assert f"may not be {'read' if command == 'GET' else 'written'} (AccessDenied)" in words


def test_missing_credentials_and_endpoints_are_said(store, moto, settings):
    settings.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert "could not be reached (EndpointConnectionError)" in refusal(ADDRESS)
    settings.delenv("AWS_ACCESS_KEY_ID")
    settings.delenv("AWS_SECRET_ACCESS_KEY")
    assert "needs credentials; allowed: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in refusal(ADDRESS)


def test_a_store_that_spoils_what_it_keeps_is_said(store, through):
    def spoil(handler, headers, body):
        if handler.command == "PUT":
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
            body = body[::-1]
        return headers, body, False

    through(spoil)
    assert "execution.backup: 's3://art/runs/' does not keep what was written" in refusal(ADDRESS)
