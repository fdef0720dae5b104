"""Sprite sheets: every sprite is found where the JSON says, and what is not asked for rightly is refused in a line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from components.config import InputError
from components.data.images import premultiplied, straight
from components.generation.__main__ import main
from components.generation.sampler import load_generator, sample, save_generator
from components.generation.sheet import save_sheet
from components.models import build_generator


def sprites(count, height, width, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)
    return premultiplied(pixels)


@pytest.mark.parametrize("channels", [3, 4])
def test_each_frame_is_its_sprite(tmp_path, channels):
    images, seeds = sprites(5, 6, 8, channels), [3, 70, 4, 11, 0]
    places = save_sheet(tmp_path / "sheet.png", images, seeds, columns=2)
    assert places == tmp_path / "sheet.json"
    found = json.loads(places.read_text())
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (18, 16, channels)
    assert found["meta"]["image"] == "sheet.png"
    assert found["meta"]["size"] == {"w": 16, "h": 18}
    assert found["meta"]["format"] == ("RGBA8888" if channels == 4 else "RGB888")
    assert set(found["frames"]) == {f"seed-{seed}" for seed in seeds}
    for seed, image in zip(seeds, images, strict=True):
        entry = found["frames"][f"seed-{seed}"]
        frame = entry["frame"]
        shown = sheet[frame["y"] : frame["y"] + frame["h"], frame["x"] : frame["x"] + frame["w"]]
        np.testing.assert_array_equal(shown, straight(image))
        assert (entry["rotated"], entry["trimmed"], entry["sourceSize"]) == (False, False, {"w": 8, "h": 6})
        assert entry["spriteSourceSize"] == {"x": 0, "y": 0, "w": 8, "h": 6}
    assert (sheet[12:, 8:] == (0 if channels == 4 else 255)).all()  # the sixth cell


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A generator of RGBA with random weights."""
    config = {
        **{"format": 1, "arch": "stylegan2", "resolution": 16, "channels": 4},
        **{"latent_dim": 16, "channel_base": 256, "channel_max": 16},
    }
    path = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_generator(path, config, build_generator(config).state_dict())
    return path


def test_from_the_command_line(model, tmp_path, capsys):
    out = tmp_path / "creatures.png"
    main(["--model", str(model), "--seeds", "0-4", "--psi", "1", "--columns", "3", "--sheet", "--out", str(out)])
    assert capsys.readouterr().out == f"{out} and {tmp_path / 'creatures.json'}: 5 images at psi 1\n"
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (32, 48, 4)
    expected = sample(load_generator(model), [4])[0]
    assert (expected[..., :3] <= expected[..., 3:]).all()
    np.testing.assert_allclose(premultiplied(sheet[16:, 16:32]).astype(int), expected, atol=1)
    frame = json.loads((tmp_path / "creatures.json").read_text())["frames"]["seed-4"]["frame"]
    assert frame == {"x": 16, "y": 16, "w": 16, "h": 16}


def test_a_page_of_rgba_has_transparent_gaps(model, tmp_path):
    out = tmp_path / "page.png"
    main(["--model", str(model), "--seeds", "0-3", "--out", str(out)])
    page = np.asarray(Image.open(out))
    assert page.shape == (38, 38, 4)
    assert not page[:2].any()
    assert not page[:, 18:20].any()
    expected = straight(sample(load_generator(model), range(4), 0.7))
    np.testing.assert_allclose(page[20:36, 2:18].astype(int), expected[2], atol=1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--seeds", "3,1-4"], "--seeds is 3,1-4; allowed with --sheet: each seed once"),
        (["--out", "sheet.json"], "--out is 'sheet.json'; allowed: a file that ends in .png"),
        (["--columns", "0"], "--columns is 0; allowed: at least 1"),
    ],
)
def test_wrong_arguments_are_one_line_and_no_file(model, tmp_path, monkeypatch, wrong, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        main(["--model", str(model), "--sheet", *wrong])
    assert not list(tmp_path.iterdir())
