"""Shards are what np.save writes, named by an index whose digest is the data's identity."""

import hashlib
import json

import numpy as np
import pytest

from components.config import InputError
from components.data import shards
from components.data.shards import split, split_of, write_shards


def digests(count):
    return [hashlib.sha256(str(index).encode()).hexdigest() for index in range(count)]


def test_the_split_goes_by_the_first_32_bits():
    assert split_of("19999999" + "f" * 56, 0.1) == "holdout"  # 0x19999999 / 2**32 is just below 0.1
    assert split_of("1999999a" + "0" * 56, 0.1) == "train"
    assert split_of("00000000" + "f" * 56, 1e-9) == "holdout"


def test_the_split_keeps_its_share_and_is_sorted():
    members = split(digests(5000), 0.2)
    assert abs(len(members["holdout"]) - 1000) < 100
    assert sorted(members["train"] + members["holdout"]) == sorted(digests(5000))
    assert members["train"] == sorted(members["train"])


def test_more_images_move_none_to_the_other_split():
    few, many = split(digests(200), 0.3), split(digests(400), 0.3)
    assert set(few["train"]) <= set(many["train"])
    assert set(few["holdout"]) <= set(many["holdout"])


def test_too_few_images_for_two_splits_are_refused():
    with pytest.raises(InputError, match=r"leaves 3 in train and 0 in holdout of 3 .* at least 2 in each: give more"):
        split(["f" * 64, "e" * 64, "d" * 64], 0.1)
    assert split(["f" * 64, "e" * 64, "0" * 64, "1" * 64], 0.5)["holdout"] == ["0" * 64, "1" * 64]


def test_shards_equal_np_save_and_the_index_names_them(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_IMAGES", 3)
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    digest = write_shards(tmp_path, images, {"train": [4, 0, 6, 2, 1], "holdout": [3, 5]})
    expected = {"train-00000.npy": [4, 0, 6], "train-00001.npy": [2, 1], "holdout-00000.npy": [3, 5]}
    for name, members in expected.items():
        np.save(tmp_path / "expected.npy", images[members])
        assert (tmp_path / name).read_bytes() == (tmp_path / "expected.npy").read_bytes()

    def entry(name):
        content = (tmp_path / name).read_bytes()
        return {"file": name, "images": len(expected[name]), "sha256": hashlib.sha256(content).hexdigest()}

    splits = {"train": [entry("train-00000.npy"), entry("train-00001.npy")], "holdout": [entry("holdout-00000.npy")]}
    identity = {"resolution": 4, "channels": 3, "splits": splits}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    assert digest == hashlib.sha256(canonical).hexdigest()
    assert json.loads((tmp_path / "index.json").read_text()) == {"format": 1, "digest": digest, **identity}


def test_the_digest_follows_pixels(tmp_path):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    order = {"train": [0, 1], "holdout": [2, 3]}
    before = write_shards(tmp_path, images, order)
    images[3, 7, 7, 2] = 1
    assert write_shards(tmp_path, images, order) != before
