"""Reading shards, and the order of images."""

import json

import numpy as np
import pytest

from components.config import InputError
from components.data.dataset import ImageSet, batch_indices
from components.data.shards import index_digest


@pytest.fixture
def folder(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    entries = []
    for number, part in enumerate((images[:4], images[4:8], images[8:])):
        np.save(tmp_path / f"train-{number:05d}.npy", part)
        entries.append({"file": f"train-{number:05d}.npy", "images": len(part), "sha256": ""})
    index = {"format": 3, "shape": [4, 4, 3], "labels": None, "splits": {"train": entries, "holdout": []}}
    (tmp_path / "index.json").write_text(json.dumps({**index, "digest": index_digest(index)}))
    return tmp_path, images


def test_gathers_across_shards_in_the_order_asked(folder):
    path, images = folder
    data = ImageSet.open(path, "train")
    assert (len(data), data.shape, data.digest) == (
        10,
        (10, 4, 4, 3),
        json.loads((path / "index.json").read_text())["digest"],
    )
    asked = np.array([9, 0, 7, 7, 3])
    np.testing.assert_array_equal(data[asked], images[asked])


@pytest.mark.parametrize("labels", [[0] * 9, [0] * 9 + [2], None])
def test_labels_that_are_not_the_images_are_refused(folder, labels):
    path, _ = folder
    stored = np.zeros(10, np.int64) if labels is None else np.array(labels, np.uint16)
    np.save(path / "train-labels.npy", stored)
    index = json.loads((path / "index.json").read_text())
    index["labels"] = {"names": ["a", "b"], "train": {"file": "train-labels.npy"}}
    (path / "index.json").write_text(json.dumps(index | {"digest": index_digest(index)}))
    with pytest.raises(InputError, match=r"train-labels\.npy: not the labels that index.json describes"):
        ImageSet.open(path, "train")


def test_damaged_folders_are_refused(folder, tmp_path):
    path, images = folder
    with pytest.raises(InputError, match="not a folder of shards"):
        ImageSet.open(path / "absent", "train")
    index = json.loads((path / "index.json").read_text())
    for wrong in ({**index, "format": 1}, {**index, "shape": [8, 8, 3]}, [], {**index, "splits": {"train": "x"}}, {}):
        (path / "index.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"format 1; allowed: 3|not a folder of shards|not the shard"):
            ImageSet.open(path, "train")
    (path / "index.json").write_text(json.dumps(index))
    np.save(path / "train-00001.npy", images[:3])
    with pytest.raises(InputError, match="train-00001"):
        ImageSet.open(path, "train")
    (path / "train-00001.npy").write_bytes(b"")
    with pytest.raises(InputError, match="not a folder of shards"):
        ImageSet.open(path, "train")


@pytest.mark.parametrize("batch", [4, 7, 30])
def test_every_epoch_shows_every_image_once_whatever_the_batch(batch):
    count = 10
    shown = np.concatenate([batch_indices(seed=3, nimg=n, batch=batch, count=count) for n in range(0, 210, batch)])
    for epoch in range(len(shown) // count):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert not np.array_equal(shown[:10], shown[10:20])


def test_workers_parts_of_a_batch_do_not_overlap_and_make_it_up():
    chosen = batch_indices(seed=5, nimg=90, batch=16, count=50)
    for world in (1, 2, 4):
        np.testing.assert_array_equal(np.concatenate(np.array_split(chosen, world)), chosen)
    assert len(set(chosen[:10])) == 10  # the rest of the epoch, offset 40 of 50


def test_the_order_depends_on_the_seed_alone():
    first = batch_indices(seed=1, nimg=0, batch=64, count=64)
    np.testing.assert_array_equal(first, batch_indices(seed=1, nimg=0, batch=64, count=64))
    assert not np.array_equal(first, batch_indices(seed=2, nimg=0, batch=64, count=64))
