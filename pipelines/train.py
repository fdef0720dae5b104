"""Stage 3, python -m pipelines.train: shards into a trained generator, going on from where the run stood."""

from __future__ import annotations

from pathlib import Path

from components import jobs
from components.config import load_params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_bytes, write_json
from components.evaluation.bench import Bench
from components.evaluation.history import write_history
from components.evaluation.snapshots import catch_up, choose_best
from components.training.identity import check_labels, run_key
from components.training.ray_trainer import export_last
from components.training.run_files import AT_WORK
from components.training.session import train
from components.training.stopping import only_one
from pipelines import stage

SHARDS, CANDIDATE, HISTORY = Path("data/shards"), Path("models/candidate"), Path("reports/history")


def main() -> None:
    """Reads data/shards; trains in runs/<run key>; writes models/candidate and reports/history."""
    params = load_params()
    data = ImageSet.open(SHARDS, "train")
    key = run_key(params.train, data.digest)
    run = Path("runs", key).resolve()
    check_labels(params.train, data)
    bench = Bench.build(params.evaluate, SHARDS, gpus=params.execution.device != "cpu")
    write_bytes(AT_WORK, key.encode())
    if params.execution.ray_address:
        jobs.see_through(params, run)
    with only_one(run):
        said = train(params, run, SHARDS, data, bench)  # after a job: what it was
        catch_up(run, bench)
        with replacing(CANDIDATE) as folder, replacing(HISTORY) as history:
            nimg = choose_best(run, bench, folder) if params.evaluate.pick == "best" else export_last(run, folder)
            write_json(folder / "training.json", {"run_key": key, "nimg": nimg, **said})
            write_history(history, run, bench, until=nimg)


if __name__ == "__main__":
    stage(main)
