"""Which run is the current one: that of params.yaml, else the one that was written to last."""

from __future__ import annotations

from pathlib import Path

from components.config import InputError, Params
from components.data.dataset import ImageSet
from components.training.identity import run_key
from components.watching.run import newest


def current(params: Params, project: Path) -> tuple[Path | None, str]:
    """The current run's folder, None where there is no run at all, and what is to be said of the choice."""
    runs = project / "runs"
    try:
        key = run_key(params.train, ImageSet.open(project / "data/shards", "train").digest)
    except InputError as error:
        return newest(runs), f"the run of params.yaml has no name yet ({error}); shown is the newest run"
    if (runs / key).is_dir():
        return runs / key, ""
    return newest(runs), f"the run of params.yaml, {key}, has not begun; shown is the newest run"
