"""A run's first model: taken whole, or refused in one line with nothing left behind."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.config import InputError
from components.training import initial
from components.training.loop import Trainer
from components.training.run_files import INITIAL

SPEC = importlib.util.spec_from_file_location("resume_worker", Path(__file__).with_name("worker.py"))
worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worker)
CONFIG, CPU = worker.config("stylegan2", "float32", "none"), torch.device("cpu")


@pytest.fixture
def model(tmp_path):
    """The folder of another run's model, and that run."""
    trainer = Trainer(replace(CONFIG, seed=7), worker.images(), CPU)
    for _ in range(3):
        trainer.step()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(trainer.average_config()))
    for network, name in (("average", "generator"), ("discriminator", "discriminator")):
        weights = trainer.players.networks()[network].state_dict()
        save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / f"{name}.safetensors")
    return folder, trainer


def fetch(folder, run):
    initial.fetch(run, replace(CONFIG, init_from=str(folder)), worker.images(), Path)


def test_a_run_of_the_same_sizes_takes_all_of_it(model, tmp_path):
    folder, source = model
    fetch(folder, tmp_path / "run")
    trainer = Trainer(CONFIG, worker.images(), CPU)
    trainer.players.start_from(*initial.read(tmp_path / "run" / INITIAL))
    pairs = [("generator", "average"), ("average", "average"), ("discriminator", "discriminator")]
    for own, other in pairs:
        theirs = source.players.networks()[other].state_dict()
        for name, tensor in trainer.players.networks()[own].state_dict().items():
            torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0, msg=name)


def test_it_is_fetched_once(model, tmp_path):
    folder, _ = model
    fetch(folder, tmp_path / "run")
    (folder / "config.json").unlink()
    fetch(folder, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "r3gan"}, "has arch 'r3gan'; allowed in this run: 'stylegan2'"),
        ({"latent_dim": 4}, "has latent_dim 4; allowed in this run: 8"),
        ({"resolution": 64}, "draws 64²; allowed: at most 16²"),
        ({"channel_max": 8}, "has 8 feature maps at 4², and this run 16; allowed: the same"),
        ({"channels": None}, "has channels None; allowed in this run: 3"),
        ({"resolution": "16"}, "allowed: a model that this pipeline made"),
        ([], "allowed: a model that this pipeline made"),
    ],
)
def test_what_does_not_fit_is_refused(model, tmp_path, change, message):
    folder, _ = model
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change if isinstance(change, dict) else change))
    with pytest.raises(InputError, match=message):
        fetch(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.json", "generator.safetensors", "discriminator.safetensors"])
@pytest.mark.parametrize("content", [None, b"{"])
def test_what_is_damaged_is_refused(model, tmp_path, name, content):
    folder, _ = model
    (folder / name).unlink()
    if content:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"train\.init_from is .*allowed: a model that this pipeline made"):
        fetch(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
