"""Turns the originals of data/raw into training arrays in data/shards: `python -m pipelines.preprocess`."""

from __future__ import annotations

from pathlib import Path

from components.config import load_params
from components.data.files import replacing
from components.data.preparation import prepare
from pipelines import stage


def main() -> None:
    """data/raw and params.yaml's preprocess → data/shards."""
    params = load_params().preprocess
    with replacing(Path("data/shards")) as folder:
        report = prepare(Path("data/raw"), folder, params)
    print(
        f"preprocess: {report['in']} in, {report['kept']} kept ({report['train']} train, {report['holdout']} holdout), "
        f"{report['rejected']} rejected, {report['duplicates']} duplicates, {params.resolution}x{params.resolution}"
    )


if __name__ == "__main__":
    stage(main)
