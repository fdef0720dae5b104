"""What the stages before register leave: a small generator that passes the gate by its numbers; and a DAG of such."""

import json
import sys

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from components.data.files import write_json
from components.data.images import save_png
from components.models import build_generator

CONFIG = {
    **{"format": 1, "arch": "stylegan", "resolution": 16, "channels": 3},
    **{"latent_dim": 16, "channel_base": 256, "channel_max": 16},
}
MODEL, KEY = "bestiary-generator", "0123456789abcdef"
METRIC = "frechet_random_conv"
BASELINES = {"untrained": 5.0, "mean_image": 4.0, "repeated_image": 3.0, "blurred_8x8": 0.5}
YARDSTICK = {"extractor": "random_conv", "extractor_digest": "e" * 64, "samples": 64, "holdout_digest": "h" * 64}

TRAIN = """
import pathlib, shutil, yaml

seed = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]["seed"]
shutil.copytree(f"made/{seed}", ".", dirs_exist_ok=True)
with open("trained", "a") as file:
    file.write(f"{seed}\\n")
"""
MEASURED = ["reports/metrics.json", "reports/evaluation.json", "reports/intervals.json", "reports/pictures"]
DAG = {  # the real stage register, behind training that takes no time and gets better with each seed
    "train": {"cmd": "python train.py", "params": ["train.seed"], "outs": ["models/candidate", *MEASURED]},
    "register": {
        "cmd": "python -m pipelines.register",
        "params": ["evaluate", "register"],
        "deps": ["models/candidate", *MEASURED],
        "outs": [{f"reports/{name}": {"cache": False, "persist": True}} for name in ("verdict.md", "registered.json")],
    },
}


def make_measured(project):
    """The project's code over DAG; a new champion is asked for."""
    for seed, own in enumerate((2.0, 1.0, 0.5, 0.2)):
        write_measured(project.path / "made" / str(seed), key=f"{seed:016x}", own=own, seed=seed)
    (project.path / "train.py").write_text(TRAIN)
    (project.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": DAG}, sort_keys=False))
    project.set({"register.promote": "ask", "train.seed": 0})
    return project


def aliases(mlflow):
    return {alias: str(number) for alias, number in mlflow.get_registered_model(MODEL).aliases.items()}


def decision(mlflow, version):
    tags = mlflow.get_model_version(MODEL, version).tags
    return [tags.get(f"bestiary.{name}") for name in ("decision", "decided_by", "decision_note")]


def dvc(project, *arguments):
    done = project.run(sys.executable, "-m", "dvc", *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def write_measured(folder, key=KEY, own=2.0, seed=0):
    """models/candidate, reports/ and the run's folder; `own` is its distance."""
    write_generator(folder / "models/candidate", key, seed)
    write_json(folder / "reports/metrics.json", metrics(own))
    write_json(folder / "reports/evaluation.json", evaluation(run_key=key))
    write_json(folder / "reports/intervals.json", {})
    save_png(folder / "reports/pictures/samples.png", np.zeros((8, 8, 3), np.uint8))
    tick = {"nimg": 2000, "kimg": 2.0, "loss_g": 1.0, "time": 10**12, "seconds": 20.0, "images_per_s": 100.0}
    (folder / "runs" / key).mkdir(parents=True)
    (folder / "runs" / key / "metrics.jsonl").write_text(json.dumps(tick) + "\n")


def write_generator(folder, key, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_generator(CONFIG).state_dict()
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "generator.safetensors")
    write_json(folder / "config.json", CONFIG)
    train = {"arch": "stylegan", "total_kimg": 2.0}
    digests = {"data_digest": "d" * 64, "code_digest": "c" * 64}
    write_json(folder / "training.json", digests | {"run_key": key, "nimg": 2000, "train": train})


def metrics(own: float = 2.0, half: float = 0.1) -> dict:
    """The numbers of a generator that passes everything but perhaps the distance."""
    return {
        "holdout": {METRIC: own, "precision": 0.5, "recall": 0.5, "density": 0.5, "coverage": 0.5},
        "holdout_low": {METRIC: own - half, "coverage": 0.4},
        "holdout_high": {METRIC: own + half, "coverage": 0.6},
        "holdout_floor": {METRIC: 0.1, "coverage": 1.0},
        "holdout_baselines": BASELINES,
        "memorisation": {"share": 0.01},
        "collapse": {"alarm": 0},
        "counts": {"samples": 64},
    }


def evaluation(**changes) -> dict:
    return {"yardstick": YARDSTICK, "metric": METRIC, "data_digest": "d" * 64, "run_key": KEY, "nimg": 2000} | changes
