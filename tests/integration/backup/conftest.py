"""A store on loopback with a bucket for the copies of runs, and what spoils the way to it."""

from contextlib import ExitStack

import boto3
import pytest

from components.data import downloads
from components.training import backup
from tests.servers import Proxy, serving
from tests.stores import address_of, emptied, moto_at


@pytest.fixture(scope="module")
def moto():
    with moto_at() as address:
        yield address


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The environment of an empty store; one try each."""
    emptied(monkeypatch, tmp_path)
    monkeypatch.setattr(downloads, "TRIES", 1)
    monkeypatch.setattr(backup, "PAUSE_S", 0.05)
    return monkeypatch


@pytest.fixture
def store(moto, settings):
    """A client of the store with the bucket `art`, which the environment names."""
    settings.setenv("AWS_ENDPOINT_URL", address_of(moto))
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="art")
    yield client
    client.close()


@pytest.fixture
def through(moto, store, settings):
    """Puts a proxy between the environment and moto."""
    with ExitStack() as running:

        def make(spoil):
            server = running.enter_context(serving(Proxy(moto, spoil)))
            running.callback(server.stop.set)
            settings.setenv("AWS_ENDPOINT_URL", server.url)
            return server

        yield make
