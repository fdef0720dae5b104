"""Shards are what np.save writes, named by an index whose digest is the data's identity."""

import hashlib
import json

import numpy as np

from components.data import shards
from tests.preprocessing import write_shards


def test_shards_equal_np_save_and_the_index_names_them(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    digest = write_shards(tmp_path, images, {"train": [4, 0, 6, 2, 1], "holdout": [3, 5]}, step=3)
    expected = {"train-00000.npy": [4, 0, 6], "train-00001.npy": [2, 1], "holdout-00000.npy": [3, 5]}
    for name, members in expected.items():
        np.save(tmp_path / "expected.npy", images[members])
        assert (tmp_path / name).read_bytes() == (tmp_path / "expected.npy").read_bytes()

    def entry(name):
        content = (tmp_path / name).read_bytes()
        return {"file": name, "images": len(expected[name]), "sha256": hashlib.sha256(content).hexdigest()}

    splits = {"train": [entry("train-00000.npy"), entry("train-00001.npy")], "holdout": [entry("holdout-00000.npy")]}
    identity = {"shape": [4, 4, 3], "labels": None, "splits": splits}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    assert digest == hashlib.sha256(canonical).hexdigest()
    assert json.loads((tmp_path / "index.json").read_text()) == {"format": 3, "digest": digest, **identity}


def test_the_digest_follows_pixels(tmp_path):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    order = {"train": [0, 1], "holdout": [2, 3]}
    before = write_shards(tmp_path, images, order)
    images[3, 7, 7, 2] = 1
    assert write_shards(tmp_path, images, order) != before


def test_a_shard_stays_below_its_size():
    assert shards.images_a_shard((64, 64, 3)) * 64 * 64 * 3 <= shards.SHARD_BYTES
    assert shards.images_a_shard((4096, 4096, 16)) == 1
