"""S3 stores on loopback for tests: a real moto server, and an environment that knows nothing else."""

import os
from contextlib import contextmanager

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from components.data import downloads


@contextmanager
def moto_at(port=0):
    """Runs a server while the block lasts; yields its host and port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


def address_of(server):
    return "http://{}:{}".format(*server)


def emptied(monkeypatch, folder):
    """An empty store for this process: credentials, nothing of the machine's own settings, short pauses."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no credentials"))
    monkeypatch.setattr(downloads, "BACKOFF_S", 0.001)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
