"""A seed's picture is its own: the same in every batch, process and file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from components.config import InputError
from components.generation.__main__ import main
from components.generation.sampler import load_generator, parse_seeds, sample, to_uint8
from components.models import build_generator

ROOT = Path(__file__).parents[3]
CONFIG = {
    **{"format": 1, "arch": "stylegan", "resolution": 16, "channels": 3},
    **{"latent_dim": 16, "channel_base": 256, "channel_max": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A generator folder with random weights and noise that shows."""
    path = tmp_path_factory.mktemp("model") / "candidate"
    path.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = {
            name: t if t.any() else 0.1 * torch.randn_like(t)
            for name, t in build_generator(CONFIG).state_dict().items()
        }
    save_file({name: t.contiguous() for name, t in state.items()}, path / "generator.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def test_colours_come_last():
    red = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    pixels = to_uint8(red)
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels[1, 3, 4].tolist() == [255, 0, 0]


def test_same_seeds_same_pictures_and_different_seeds_different_ones(folder):
    first, second = (sample(load_generator(folder), [3, 1, 4], 0.7) for _ in range(2))
    assert first.shape == (3, 16, 16, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert all(np.abs(first[a].astype(int) - first[b]).max() > 10 for a, b in [(0, 1), (0, 2), (1, 2)])


def test_a_picture_does_not_depend_on_its_neighbours(folder):
    generator = load_generator(folder)
    together = sample(generator, range(70), 0.7).astype(int)  # more than one batch
    for seed in (0, 63, 64, 69):
        assert np.abs(together[seed] - sample(generator, [seed], 0.7)[0]).max() <= 1


def test_neither_loading_nor_sampling_touches_the_global_generator(folder):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    sample(load_generator(folder), [0])
    assert torch.equal(torch.randn(3), expected)


def test_psi_0_draws_everything_from_the_mean_latent(folder):
    generator = load_generator(folder)  # 16² has six layers: all are truncated
    noise = [
        torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(5)) for shape in generator.noise_shapes()
    ]
    with torch.inference_mode():
        styles = [generator.truncate(generator.mapping(torch.full((1, 16), value)), 0.0) for value in (1.0, -2.0)]
        one, other = (generator.synthesis(ws, noise) for ws in styles)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("5", [5]), ("0-3,70", [0, 1, 2, 3, 70]), ("7,7", [7, 7]), (" 1 , 2-2 ", [1, 2]), ("0-4095", list(range(4096)))],
)
def test_seeds_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "3-1", "-1", "1,,2", "1.5", "0-4096", "0-9999999999999999999", "0-4000,0-4000"]
)
def test_nonsense_seeds_are_refused(text):
    with pytest.raises(InputError, match=r"seeds are .*allowed: "):
        parse_seeds(text)


def test_a_folder_that_is_no_generator_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"is no generator.*allowed"):
        load_generator(tmp_path)
    for name in ("config.json", "generator.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"resolution": 32}))
    with pytest.raises(InputError, match="damaged"):
        load_generator(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "generator.safetensors").write_bytes((folder / "generator.safetensors").read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged"):
        load_generator(tmp_path)


def test_same_seeds_same_file(folder, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        main(["--model", str(folder), "--seeds", "0-8", "--psi", "0.7", "--out", str(tmp_path / name)])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "9 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        ["--psi", "2"],
        ["--psi", "nan"],
        ["--psi", "x"],
        ["--seeds", "z"],
        ["--columns", "0"],
        ["--out", "a.jpg"],
        ["--x"],
    ],
)
def test_wrong_arguments_are_named(folder, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=wrong[0].lstrip("-")):
        main(["--model", str(folder), *wrong])
    assert not list(tmp_path.iterdir())


def test_an_unwritable_file_is_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out"):
        main(["--model", str(folder), "--seeds", "0", "--out", str(tmp_path / "file" / "grid.png")])


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "components.generation", "--model", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
