"""The whole report on small sets whose answers are known, and the bench that it is measured on."""

import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.config import InputError, load_params
from components.data import shards
from components.data.dataset import ImageSet
from components.data.files import write_json_lines
from components.evaluation.bench import Bench, measure_on_holdout, split_train
from components.evaluation.candidates import Blurred, Generated, RealImages, blur_to_8, mean_image
from components.evaluation.description import describe, described_reals
from components.evaluation.evaluate import evaluate, table
from components.evaluation.gallery import draw
from components.executor import executor, inline
from components.generation.sampler import sample, save_generator
from components.models import build_generator
from tests.preprocessing import write_shards

ROOT = Path(__file__).parents[3]
CONFIG = {
    **{"format": 1, "arch": "stylegan", "resolution": 16, "channels": 3},
    **{"latent_dim": 8, "channel_base": 128, "channel_max": 8},
}
BASELINES = {"untrained", "mean_image", "repeated_image", "blurred_8x8"}
KINDS = {
    *("frechet_random_conv", "frechet_random_conv_infinity", "kernel_random_conv"),
    *("precision", "recall", "density", "coverage"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """140 train and 60 holdout images: a coloured square in a corner, on white."""
    made = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    images = np.full((200, 16, 16, 3), 255, np.uint8)
    for image in images:
        top, left = rng.integers(0, 8, 2)
        image[top : top + 8, left : left + 8] = rng.integers(0, 200, 3)
    return put(made, images, 140)


@pytest.fixture
def bench(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = replace(load_params(ROOT / "params.yaml").evaluate, samples=60)
    return Bench.build(params, folder, gpus=False)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A generator folder with random weights."""
    folder = tmp_path_factory.mktemp("generator")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_generator(folder, CONFIG, build_generator(CONFIG).state_dict())
    return folder


@pytest.mark.parametrize(
    ("count", "samples", "size"), [(1800, 900, 900), (1000, 900, 500), (2000, 900, 900), (5, 9, 2)]
)
def test_the_train_images_are_parted(count, samples, size):
    split = split_train(count, samples)
    assert len(split.aside) == size
    assert sorted([*split.aside, *split.reference]) == list(range(count))
    np.testing.assert_array_equal(split_train(count, samples).aside, split.aside)


def test_the_reference_of_a_large_set_is_a_part_of_it():
    split = split_train(200_000, 1000)
    assert (len(split.aside), len(split.reference)) == (1000, 50_000)
    assert not set(split.aside) & set(split.reference)
    assert 90_000 < np.median(split.reference) < 110_000


def few(folder, train, holdout):
    """Shards of so many noise images."""
    return put(folder, np.random.default_rng(0).integers(0, 256, (train + holdout, 16, 16, 3), dtype=np.uint8), train)


def put(folder, images, train):
    """A folder of shards; what is not among the first `train` images is held out."""
    folder.mkdir(exist_ok=True)
    splits = {"train": list(range(train)), "holdout": list(range(train, len(images)))}
    write_shards(folder, images, splits)
    rows = [{"digest": str(n), "name": str(n), "split": split} for split, members in splits.items() for n in members]
    write_json_lines(folder / "images.jsonl", rows)
    write_json_lines(folder / "pairs.jsonl", [])
    return folder


@pytest.mark.parametrize(("train", "holdout", "words"), [(7, 4, "7 train .* 8"), (20, 1, "1 holdout .* 2")])
def test_too_few_images_say_what_to_change(tmp_path, bench, train, holdout, words):
    with pytest.raises(InputError, match=f"{words} to evaluate on: add images to ingest.source or change preprocess"):
        Bench.build(bench.params, few(tmp_path / "s", train, holdout), gpus=False)


def test_the_fewest_images_can_be_measured(tmp_path, bench, generator):
    fewest = Bench.build(bench.params, few(tmp_path / "s", 8, 2), gpus=False)
    groups = evaluate(fewest, generator, inline).groups
    json.dumps(groups, allow_nan=False)
    assert groups["counts"] == {"samples": 4, "train": 4, "holdout": 2}


def test_the_report_of_a_generator_that_is_perfect(bench, generator, monkeypatch):
    """It gives the very images that are set aside: the floor in every number, and all of them copies."""
    train, aside = bench.reals("train").images(), bench.split().aside
    monkeypatch.setattr(Generated, "__call__", lambda self, keys: train[aside[keys]])
    report = evaluate(bench, generator, inline)
    groups = report.groups
    assert set(groups["holdout"]) == KINDS == set(bench.names)
    for split in ("holdout", "train"):
        assert groups[split] == pytest.approx(groups[f"{split}_floor"], rel=1e-6)  # float32 features
        for name, value in groups[split].items():
            assert groups[f"{split}_low"][name] <= value <= groups[f"{split}_high"][name]
    assert set(groups["holdout_baselines"]) == BASELINES
    assert min(groups["holdout_baselines"].values()) > groups["holdout"][bench.metric]
    assert groups["memorisation"]["share"] == 1
    assert groups["collapse"]["alarm"] == 0
    assert groups["counts"] == {"samples": 60, "train": 80, "holdout": 60}


def test_the_report_of_an_untrained_generator(bench, generator):
    report = evaluate(bench, generator, inline)
    groups = report.groups
    json.dumps(groups, allow_nan=False)
    assert groups["holdout"][bench.metric] > 10 * groups["holdout_floor"][bench.metric]
    assert groups["holdout"]["coverage"] < 0.1
    assert groups["memorisation"]["share"] == 0
    assert groups["path"]["perceptual_length"] > 0
    assert evaluate(bench, generator, inline).groups == groups
    shown = table(groups, bench.metric, report.alarm)
    for words in (
        "holdout, N = 60",
        "frechet_random_conv_infinity of",
        "  mean image",
        "perceptual path length",
        "collapse alarm",
    ):
        assert words in shown


def test_transparent_images(tmp_path, bench):
    """Squares of half-transparent colour, premultiplied: measured over two backgrounds, and alpha by itself."""
    rng = np.random.default_rng(0)
    images = np.zeros((60, 16, 16, 4), np.uint8)
    for image in images:
        top, left = rng.integers(0, 8, 2)
        image[top : top + 8, left : left + 8] = [*rng.integers(0, 128, 3), 128]
    folder = tmp_path / "rgba"
    put(folder, images, 40)
    config = CONFIG | {"channels": 4}
    save_generator(tmp_path, config, build_generator(config).state_dict())
    rgba = Bench.build(bench.params, folder, gpus=False)
    report = evaluate(rgba, tmp_path, inline)
    assert set(report.groups["holdout"]) == set(rgba.names) > {"frechet_random_conv_rgba", "frechet_alpha"}
    floor, own = report.groups["holdout_floor"], report.groups["holdout"]
    assert own["frechet_alpha"] > 10 * floor["frechet_alpha"]
    draw(tmp_path, tmp_path, rgba, report.copies)
    with Image.open(tmp_path / "samples.png") as page:
        assert page.mode == "RGB"


def test_labels_are_covered_one_by_one(tmp_path, bench, generator):
    folder = tmp_path / "labelled"
    put(folder, np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), 30)
    index = json.loads((folder / "index.json").read_text())
    kinds = {"train": np.arange(30) % 2, "holdout": np.arange(10) % 2}
    entries = {
        split: shards.write_labels(folder / f"{split}-labels.npy", kind.astype(np.uint16))
        for split, kind in kinds.items()
    }
    shards.write_index(folder, (16, 16, 3), index["splits"], {"names": ["birds", "fish"], **entries})
    labelled = Bench.build(bench.params, folder, gpus=False)
    assert set(evaluate(labelled, generator, inline).groups["labels"]) == {"birds", "fish"}
    assert labelled.reals("holdout").images().named_labels() == ["birds", "fish"] * 5


def test_a_network_of_ones_own_measures_in_other_processes(tmp_path, bench, generator):
    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    weights = tmp_path / "means.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Means()).save(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    own = replace(bench.params, extractor="means", weights=str(weights), weights_sha256=digest, input_size=32)
    measured = Bench.build(own, bench.shards, gpus=False)
    assert measured.metric == "frechet_means_infinity"
    with executor(preload="components.evaluation.description") as spread:
        spread_out = measured.on_holdout(Generated.at(generator), spread)
    here = measured.on_holdout(Generated.at(generator))
    for name, value in here["holdout"].items():
        assert spread_out["holdout"][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_a_generator_that_has_diverged_is_said(tmp_path, bench):
    weights = {
        name: torch.full_like(tensor, torch.nan) for name, tensor in build_generator(CONFIG).state_dict().items()
    }
    save_generator(tmp_path, CONFIG, weights)
    with pytest.raises(InputError, match="the generator's images are not finite; allowed: one that has not diverged"):
        evaluate(bench, tmp_path, inline)


@pytest.mark.parametrize(
    ("name", "content"), [("pairs.jsonl", None), ("images.jsonl", None), ("pairs.jsonl", "{"), ("images.jsonl", "")]
)
def test_shards_without_their_tables_are_said(tmp_path, bench, generator, name, content):
    folder = put(tmp_path / "s", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), 30)
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(InputError, match=r"not a folder of shards|0 train images; allowed: the 30 of the shards"):
        evaluate(Bench.build(bench.params, folder, gpus=False), generator, inline)


def test_reals_are_described_once(bench, monkeypatch):
    source = bench.reals("holdout")
    first = described_reals(source, bench.look, bench.cache)
    (kept,) = bench.cache.iterdir()
    monkeypatch.setattr("components.evaluation.description.describe", None)  # not called again
    again = described_reals(source, bench.look, bench.cache)
    for name, part in vars(first).items():
        np.testing.assert_array_equal(part, getattr(again, name))
    assert kept.suffix == ".safetensors"


def test_a_damaged_cache_is_made_again(bench):
    first = bench.described("holdout")
    (kept,) = bench.cache.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(bench.described("holdout").features, first.features)
        assert kept.read_bytes() == whole


def test_snapshots_and_the_final_report_agree(bench, generator):
    found, report = bench.on_holdout(Generated.at(generator)), evaluate(bench, generator, inline).groups
    assert found == {name: report[name] for name in ("holdout", "holdout_low", "holdout_high")}
    np.testing.assert_array_equal(bench.layouts_aside(), bench.described("train")[bench.split().aside].layouts)
    assert measure_on_holdout(bench, generator)["holdout"] == pytest.approx(found["holdout"], rel=1e-3, abs=1e-3)


def test_what_cannot_be_measured_here_says_why(bench, tmp_path):
    for change, reason in (
        ({"channels": 4}, "it draws images of 4 channels, the data has 3"),
        ({"grid": [4, 3]}, "it draws images of 3:4, the data has 16x16"),
    ):
        config = CONFIG | change
        save_generator(tmp_path, config, build_generator(config).state_dict())
        assert measure_on_holdout(bench, tmp_path) == reason
    (tmp_path / "config.json").write_text("{")
    assert "the generator is damaged" in measure_on_holdout(bench, tmp_path)


def test_the_yardstick_follows_extractor_n_and_holdout(bench, folder, tmp_path):
    assert json.loads(json.dumps(bench.yardstick)) == bench.yardstick
    fewer = replace(bench, params=replace(bench.params, samples=50))
    assert {key for key in bench.yardstick if bench.yardstick[key] != fewer.yardstick[key]} == {"samples"}
    images = ImageSet.open(folder, "train")
    write_shards(tmp_path, images[np.arange(60)], {"train": list(range(50)), "holdout": list(range(50, 60))})
    other = replace(bench, shards=tmp_path)
    assert other.yardstick["holdout_digest"] != bench.yardstick["holdout_digest"]


def test_what_a_source_gives_depends_on_its_keys_alone(generator, bench, folder):
    keys = np.array([5, 3, 130])
    train = RealImages(folder, "train")
    np.testing.assert_array_equal(train(keys), ImageSet.open(folder, "train")[keys])
    np.testing.assert_array_equal(Blurred(train)(keys), blur_to_8(train(keys)))
    source = Generated.at(generator)
    np.testing.assert_array_equal(source(keys), sample(source.generator(), [5, 3, 130]))
    whole = describe(source, np.arange(70), bench.look)
    np.testing.assert_allclose(describe(source, np.array([66]), bench.look).features, whole.features[66:67], atol=1e-3)


def test_a_folder_with_another_generator_is_loaded_again(tmp_path, generator):
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            save_generator(tmp_path, CONFIG, build_generator(CONFIG).state_dict())
        pictures = Generated.at(tmp_path)(np.arange(2))
        expected = Generated.at(generator)(np.arange(2))
        assert np.array_equal(pictures, expected) == (seed == 1)


def test_mean_image(folder):
    members = np.arange(0, 140, 2)
    train = RealImages(folder, "train")
    expected = np.rint(train(members).mean(0)).astype(np.uint8)
    np.testing.assert_array_equal(mean_image(train, members, step=7), expected)


def test_blur_to_8_keeps_what_8x8_holds():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(blur_to_8(small), small)
    checks = np.indices((32, 32)).sum(0)[None, :, :, None].repeat(3, axis=3) % 2 * 200
    np.testing.assert_array_equal(blur_to_8(checks.astype(np.uint8)), np.full((1, 32, 32, 3), 100))
