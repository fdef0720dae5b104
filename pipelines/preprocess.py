"""Turns the originals of data/raw into training arrays in data/shards: `python -m pipelines.preprocess`."""

from __future__ import annotations

from pathlib import Path

from components.config import load_params
from components.executor import executor
from pipelines import stage


def main() -> None:
    """data/raw and params.yaml's preprocess → data/shards."""
    params = load_params().preprocess
    with executor(preload="components.data.preparation") as spread:
        from components.data.files import replacing  # while the workers import the same
        from components.data.preparation import prepare

        with replacing(Path("data/shards")) as folder:
            report = prepare(Path("data/raw"), folder, params, spread)
    print(
        f"preprocess: {report['in']} in, {report['kept']} kept ({report['train']} train, {report['holdout']} holdout), "
        f"{report['rejected']} rejected, {report['duplicates']} duplicates, {report['similar']} similar dropped, "
        f"{params.size[1]}x{params.size[0]}; look at data/shards/report.html"
    )


if __name__ == "__main__":
    stage(main)
