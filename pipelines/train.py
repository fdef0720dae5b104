"""Stage 3, python -m pipelines.train: shards into a trained generator, going on from where the run stood."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from components.cluster import cluster
from components.config import InputError, Params, load_params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_json
from components.data.node_cache import project_files
from components.tracking import runs
from components.training import state
from components.training.growth import batch_at
from components.training.identity import code_digest, run_key
from components.training.progress import following
from components.training.ray_trainer import Job, fit
from pipelines import stage

SHARDS, CANDIDATE = Path("data/shards"), Path("models/candidate")


def main() -> None:
    """Reads data/shards; trains in runs/<run key>; writes models/candidate."""
    params = load_params()
    data = ImageSet.open(SHARDS, "train")
    if data.shape[3] != 3:
        raise InputError(f"preprocess.channels is {data.shape[3]}; allowed for train.arch {params.train.arch}: 3")
    key = run_key(params.train, data.digest)
    run, target = Path("runs", key).resolve(), params.train.total_kimg
    saved, _ = state.latest(run / "checkpoints")
    reached = saved.numbers["nimg"] if saved else 0
    print(f"run {key}: {reached / 1000:g} of {target:g} kimg shown, {len(data)} images of {data.shape[1]}²")
    if reached - batch_at(params.train.start_resolution, params.train, data.shape[1]) >= target * 1000:
        raise InputError(f"train.total_kimg is {target}; allowed: at least {reached / 1000}, where run {key} stands")
    if reached < target * 1000:
        train(params, run, data.digest)
        saved, _ = state.latest(run / "checkpoints")
    assert saved is not None
    identity = {"run_key": key, "data_digest": data.digest, "code_digest": code_digest()}
    average = {name.removeprefix("average/"): t for name, t in saved.tensors.items() if name.startswith("average/")}
    with replacing(CANDIDATE) as folder:
        save_file(average, folder / "generator.safetensors")
        write_json(folder / "config.json", saved.numbers["model"])
        write_json(folder / "training.json", identity | {"nimg": saved.numbers["nimg"], "train": asdict(params.train)})


def train(params: Params, run: Path, digest: str) -> None:
    """Trains to the target under Ray, with a bar, and with MLflow's curves kept up to date."""
    mirror = runs.mirror(run.name, asdict(params.train), digest, run)
    with cluster(params.execution) as share, following(run / "metrics.jsonl", params.train.total_kimg, mirror):
        shards, how, files = SHARDS.resolve(), params.execution, project_files()
        fit(Job(train=params.train, execution=how, share=share, run=run, shards=shards, digest=digest, project=files))


if __name__ == "__main__":
    stage(main)
