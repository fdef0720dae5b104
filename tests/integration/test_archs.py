"""Each arch goes the whole way, from training to a registered model that draws; and a run starts from such a model."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from components.generation.sampler import load_generator, sample
from components.models.layers import fir_upsample

SMALL = {"train.arch": "stylegan2", "train.gamma": 0.01, "train.total_kimg": 0.2, "evaluate.every_kimg": 0.1}


@pytest.fixture(scope="module")
def trained(module_project):
    """The tiny project with stylegan2 registered as version 1, at 16²."""
    module_project.set(SMALL)
    module_project.stages("ingest", "preprocess", "train", "evaluate", "register")
    return module_project


def read(path):
    return json.loads(path.read_text())


def page(project, model):
    out = project.path / "page.png"
    argv = ["-m", "components.generation", "--model", model, "--seeds", "0-3", "--psi", "1", "--out", str(out)]
    done = project.run(sys.executable, *argv)
    assert done.returncode == 0, done.stdout
    return np.asarray(Image.open(out))


def test_stylegan2(trained):
    assert read(trained.path / "models/candidate/config.json")["arch"] == "stylegan2"
    assert (trained.path / "reports/pictures/mixing.png").exists()
    np.testing.assert_array_equal(
        page(trained, "models:/bestiary-generator/1"), page(trained, str(trained.path / "models/candidate"))
    )


def test_a_larger_run_starts_from_a_registered_model(trained):
    """At a rate of next to nothing it ends where the smaller model stood: the same pictures, enlarged."""
    small = load_generator(trained.path / "models/candidate")
    trained.set(
        {
            "preprocess.resolution": 32,
            "train.init_from": "models:/bestiary-generator/1",
            "train.learning_rate": 1e-12,
        }
    )
    trained.stages("preprocess", "train")
    large = load_generator(trained.path / "models/candidate")
    assert large.resolution == 32
    ws = small.truncate(small.mapping(torch.randn(4, 16)), 1.0)
    noise = [torch.randn(4, 1, *shape) for shape in large.noise_shapes()]
    expected = fir_upsample(small.synthesis(ws, noise[:-2]))
    wide = torch.cat([ws, ws[:, -2:]], dim=1)
    torch.testing.assert_close(large.synthesis(wide, noise), expected, atol=1e-3, rtol=1e-3)
    (run,) = [path for path in (trained.path / "runs").iterdir() if (path / "initial").exists()]
    old, new = (
        load_file(folder / "discriminator.safetensors")
        for folder in (run / "initial", trained.path / "models/candidate")
    )
    shared = [name for name in old if name in new and old[name].shape == new[name].shape]
    assert len(shared) > 10
    for name in shared:
        torch.testing.assert_close(new[name], old[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ("models:/bestiary-generator@champion", "allowed: nothing, models:/NAME/VERSION"),
        ("models:/bestiary-generator/9", "there is no models:/bestiary-generator/9"),
        ("nowhere", "train.init_from: .*allowed: models:/NAME/VERSION or a generator folder"),
    ],
)
def test_what_is_no_model_is_refused(trained, init_from, message):
    trained.set({"train.init_from": init_from})
    done = trained.run(sys.executable, "-m", "pipelines.train")
    assert done.returncode == 2, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    assert re.search(message, line), line
    assert "Traceback" not in done.stdout


def test_a_model_of_another_arch_is_refused(trained):
    trained.set({"train.init_from": "models:/bestiary-generator/1", "train.arch": "r3gan"})
    done = trained.run(sys.executable, "-m", "pipelines.train")
    assert done.returncode == 2, done.stdout
    assert "error: train.init_from has arch 'stylegan2'; allowed in this run: 'r3gan'" in done.stdout


def test_an_arch_without_styles_is_measured_and_registered_alike(trained):
    """The others: test_transparent.py."""
    trained.set({"preprocess.resolution": 16, "train.init_from": "", "train.arch": "dcgan"})
    trained.set({"train.learning_rate": 0.0002})
    trained.stages("preprocess", "train", "evaluate", "register")
    assert read(trained.path / "models/candidate/config.json")["arch"] == "dcgan"
    assert not (trained.path / "reports/pictures/mixing.png").exists()  # it has no styles
    generator = load_generator(trained.path / "models/candidate")
    drawn = page(trained, "models:/bestiary-generator@challenger")
    np.testing.assert_array_equal(drawn, page(trained, str(trained.path / "models/candidate")))
    assert sample(generator, range(4)).shape == (4, 16, 16, 3)
    assert drawn.std() > 0
