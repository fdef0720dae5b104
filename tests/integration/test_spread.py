"""Work over a real Ray: in order, through the death of workers, and preprocessing with the same bytes as without it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from components.config import InputError
from components.data.buckets import write_buckets
from components.data.images import encode_png
from components.data.preparation import prepare
from components.data.procedural import draw_creature
from components.evaluation.candidates import RealImages
from components.evaluation.description import Look, describe
from components.evaluation.features import ExtractorSpec
from components.executor import executor, inline
from tests.preprocessing import PARAMS, write_shards
from tests.tasks import kill_once, refuse


@pytest.fixture(scope="module")
def spread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        with executor(preload="components.data.preparation") as spread:
            yield spread


def test_results_come_in_order_though_workers_die(spread, tmp_path):
    assert list(spread(partial(kill_once, folder=tmp_path), range(20))) == list(range(20))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_task_raises_is_raised(spread):
    with pytest.raises(InputError, match="3 is not wanted"):
        list(spread(refuse, [3]))


def test_preprocessing_makes_the_same_bytes_as_without_workers(spread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not where the workers were started
    files = [(f"{n}.png", encode_png(draw_creature(0, n, 32))) for n in range(100)]
    raw = Path("raw")
    raw.mkdir()
    write_buckets(files, raw)
    made = []
    for name, way in (("ray", spread), ("here", inline)):
        (tmp_path / name).mkdir()
        prepare(raw, Path(name), replace(PARAMS, resolution=16), way)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]


def test_images_are_described_as_without_workers(spread, tmp_path):
    images = np.stack([np.asarray(draw_creature(0, n, 32))[..., :3] for n in range(100)])
    write_shards(tmp_path, images, {"train": list(range(90)), "holdout": list(range(90, 100))})
    look = Look(ExtractorSpec("random_conv", None, "", 64), 3, gpus=True)
    source, keys = RealImages(tmp_path, "train"), np.arange(90)
    there, here = describe(source, keys, look, spread), describe(source, keys, look)
    np.testing.assert_array_equal(there.layouts, here.layouts)
    np.testing.assert_allclose(there.features, here.features, rtol=1e-4, atol=1e-4)
