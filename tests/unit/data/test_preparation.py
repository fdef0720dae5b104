"""From files to shards: every file is counted once, and neither order nor names change a byte of the shards."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.config import InputError, Preprocess
from components.data.buckets import write_buckets
from components.data.compositing import composite, content_digest, decode, fit
from components.data.preparation import prepare
from components.data.shards import split_of
from components.data.sources import read_source

PARAMS = Preprocess(resolution=8, background="#102030", holdout=0.3)
TUXEMON = Path(__file__).parents[4] / "shared" / "data" / "tuxemon.zip"


def picture(seed, fmt="PNG"):
    """A soft-edged noise picture of 5 to 20 pixels a side."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 256, (*rng.integers(5, 21, 2), 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, fmt)
    return buffer.getvalue()


FILES = [(f"{seed:02d}.png", picture(seed)) for seed in range(40)]
ODD = [
    ("copy.png", FILES[0][1]),  # the same bytes
    ("0.tiff", picture(0, "TIFF")),  # the same pixels
    ("README.md", b"words"),
    ("sub/README.md", b"words"),
    ("cut.png", picture(99)[:200]),
]


def run(folder, files, params=PARAMS):
    """The report and the bytes of every file made."""
    raw, out = folder / "raw", folder / "shards"
    raw.mkdir(parents=True)
    out.mkdir()
    write_buckets(files, raw)
    report = prepare(raw, out, params)
    return report, {path.name: path.read_bytes() for path in out.iterdir()}


def test_in_is_kept_and_rejected_and_duplicates(tmp_path):
    report, made = run(tmp_path, FILES + ODD)
    counts = {name: report[name] for name in ("in", "kept", "rejected", "duplicates")}
    assert counts == {"in": 45, "kept": 40, "rejected": 3, "duplicates": 2}
    assert report["train"] + report["holdout"] == 40
    assert report["preprocess"] == {"resolution": 8, "background": "#102030", "holdout": 0.3}
    assert json.loads(made["report.json"]) == report
    assert [json.loads(line) for line in made["rejected.jsonl"].splitlines()] == [
        {"name": "README.md", "reason": "not an image"},
        {"name": "cut.png", "reason": "truncated"},
        {"name": "sub/README.md", "reason": "not an image"},
    ]
    expected = {"train-00000.npy", "holdout-00000.npy", "index.json", "report.json", "rejected.jsonl", "preview.png"}
    assert made.keys() == expected


def test_shards_hold_the_composites_by_content_digest(tmp_path):
    _, made = run(tmp_path, FILES)
    images = sorted((decode(content) for _, content in FILES), key=content_digest)
    for split in ("train", "holdout"):
        members = [image for image in images if split_of(content_digest(image), 0.3) == split]
        expected = np.stack([composite(fit(image, 8), (0x10, 0x20, 0x30)) for image in members])
        np.testing.assert_array_equal(np.load(io.BytesIO(made[f"{split}-00000.npy"])), expected)


def test_order_and_names_change_nothing(tmp_path):
    shuffled = [(f"x{index}", content) for index, (_, content) in enumerate(random.Random(3).sample(FILES, len(FILES)))]
    assert run(tmp_path / "a", FILES)[1] == run(tmp_path / "b", shuffled)[1]


def test_one_more_image_moves_no_other(tmp_path):
    before, after = run(tmp_path / "a", FILES)[1], run(tmp_path / "b", [*FILES, ("new.png", picture(77))])[1]
    for split in ("train", "holdout"):
        old, new = (
            {image.tobytes() for image in np.load(io.BytesIO(made[f"{split}-00000.npy"]))} for made in (before, after)
        )
        assert old <= new


def test_no_usable_image_is_refused_with_the_reasons(tmp_path):
    with pytest.raises(InputError, match="no usable image: 2 not an image, 1 truncated; allowed: PNG, JPEG"):
        run(tmp_path, ODD[2:])


def test_one_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="of 1 different images; allowed: at least 2 in each"):
        run(tmp_path, FILES[:1] * 10)


@pytest.mark.skipif(not TUXEMON.exists(), reason="shared data absent: ../shared/data/tuxemon.zip")
def test_the_tuxemon_sprites(tmp_path):
    report, made = run(tmp_path, read_source(TUXEMON), Preprocess(resolution=64, background="#ffffff", holdout=0.1))
    assert (report["in"], report["rejected"]) == (757, 1)
    assert report["kept"] + report["duplicates"] == 756
    assert json.loads(made["rejected.jsonl"]) == {"name": "tuxemon/ATTRIBUTIONS.md", "reason": "not an image"}
    train = np.load(io.BytesIO(made["train-00000.npy"]))
    assert train.shape == (report["train"], 64, 64, 3)
    # sprites stand on white: most corner pixels are background, and no image is blank
    assert (train[:, 0, 0] == 255).all(axis=-1).mean() > 0.8
    assert (train.reshape(len(train), -1).min(axis=1) < 128).all()
