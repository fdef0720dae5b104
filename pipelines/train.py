"""Stage 3, python -m pipelines.train: shards into a trained generator, going on from where the run stood."""

from __future__ import annotations

from pathlib import Path

from components.cluster import beside, cluster
from components.config import Params, load_params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_json
from components.data.node_cache import project_files
from components.evaluation.bench import Bench
from components.evaluation.history import write_history
from components.evaluation.snapshots import Watch, catch_up, choose_best
from components.tracking import registry, runs
from components.training.alarms import Alarms
from components.training.identity import check_labels, check_target, code_digest, run_key, settings
from components.training.initial import fetch
from components.training.progress import following
from components.training.ray_trainer import Job, export_last, fit, images_shown
from pipelines import stage

SHARDS, CANDIDATE, HISTORY = Path("data/shards"), Path("models/candidate"), Path("reports/history")


def main() -> None:
    """Reads data/shards; trains in runs/<run key>; writes models/candidate and reports/history."""
    params = load_params()
    data = ImageSet.open(SHARDS, "train")
    key = run_key(params.train, data.digest)
    run, target = Path("runs", key).resolve(), params.train.total_kimg
    reached, alpha = images_shown(run), " with alpha" if data.shape[3] == 4 else ""
    size = f"{data.shape[2]}x{data.shape[1]}{alpha}"
    print(f"run {key}: {reached / 1000:g} of {target:g} kimg shown, {len(data)} images of {size}")
    check_labels(params.train, data)
    check_target(reached, params.train, max(data.shape[1:3]))
    bench = Bench.build(params.evaluate, SHARDS, gpus=params.execution.device != "cpu")
    fetch(run, params.train, data, registry.resolve)
    if reached < target * 1000:
        train(params, run, data.digest, bench)
    identity = {"run_key": key, "data_digest": data.digest, "code_digest": code_digest()}
    catch_up(run, bench)
    with replacing(CANDIDATE) as folder, replacing(HISTORY) as history:
        nimg = choose_best(run, bench, folder) if params.evaluate.pick == "best" else export_last(run, folder)
        write_json(folder / "training.json", identity | {"nimg": nimg, "train": settings(params.train)})
        write_history(history, run, bench, until=nimg)


def train(params: Params, run: Path, digest: str, bench: Bench) -> None:
    """Trains to the target under Ray, with a bar, snapshots measured beside it, and MLflow's curves kept up to date."""
    alarms = Alarms(run, params.train)
    mirror = runs.mirror(run.name, settings(params.train), digest, run, alarms.tags)
    with cluster(params.execution) as share, beside(share) as submit:
        watch = Watch(run, bench, submit)
        with following(run, params.train.total_kimg, watch.look, alarms.announce, mirror, last=watch.finish):
            fit(Job(params=params, run=run, shards=SHARDS.resolve(), digest=digest, project=project_files()), share)


if __name__ == "__main__":
    stage(main)
