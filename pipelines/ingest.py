"""Brings the source's files, byte for byte, into data/raw: `python -m pipelines.ingest`."""

from __future__ import annotations

from pathlib import Path

from components.config import load_params
from components.data.buckets import write_buckets
from components.data.files import replacing
from components.data.sources import read_source
from pipelines import stage


def main() -> None:
    """params.yaml's ingest.source → data/raw."""
    source = load_params().ingest.source
    with replacing(Path("data/raw")) as folder:
        stored = write_buckets(read_source(Path(source)), folder)
    refused = f", {stored.refused} refused" if stored.refused else ""
    print(f"ingest: {stored.files} files, {stored.bytes / 1e6:.1f} MB, {stored.buckets} buckets{refused}")


if __name__ == "__main__":
    stage(main)
