"""From files to shards: every file is counted once; order, names and workers change no byte of the shards."""

import io
import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from components.config import InputError
from components.data import shards, taking
from components.data.buckets import write_buckets
from components.data.compositing import composite, content_digest, fit, premultiply, transparent, visible_pixels
from components.data.decoding import decode
from components.data.preparation import prepare
from components.data.procedural import draw_creature
from components.data.selection import holds_out
from components.data.sources import read_source
from components.evaluation.memorisation import train_groups
from components.executor import WorkerKilledError, executor, inline
from tests.preprocessing import PARAMS

PARAMS = replace(PARAMS, background="#102030")
DATA = Path(__file__).parents[4] / "shared" / "data"


def picture(seed, fmt="PNG"):
    """A soft-edged noise picture of 5 to 20 pixels a side."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 256, (*rng.integers(5, 21, 2), 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, fmt)
    return buffer.getvalue()


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


FILES = [(f"{seed:02d}.png", picture(seed)) for seed in range(40)]
ODD = [
    ("copy.png", FILES[0][1]),  # the same bytes
    ("0.tiff", picture(0, "TIFF")),  # the same pixels
    ("README.md", b"words"),
    ("sub/README.md", b"words"),
    ("cut.png", picture(99)[:200]),
]


def run(folder, files, params=PARAMS, spread=inline):
    """The report and the bytes of every file made."""
    raw, out = folder / "raw", folder / "shards"
    raw.mkdir(parents=True)
    out.mkdir()
    write_buckets(files, raw)
    report = prepare(raw, out, params, spread)
    return report, {path.name: path.read_bytes() for path in out.iterdir()}


def rows(made, name):
    return [json.loads(line) for line in made[name].splitlines()]


def test_in_is_kept_and_rejected_and_duplicates(tmp_path):
    report, made = run(tmp_path, FILES + ODD)
    counts = {name: report[name] for name in ("in", "kept", "rejected", "duplicates", "similar")}
    assert counts == {"in": 45, "kept": 40, "rejected": 3, "duplicates": 2, "similar": 0}
    assert report["train"] + report["holdout"] == 40
    assert report["preprocess"] == asdict(PARAMS)
    assert report["reasons"] == {"not an image: looks like text": 2, "truncated": 1}
    assert report["forms"] == {"PNG RGBA": 39, "TIFF RGBA": 1}  # of equal ones the first by name
    assert json.loads(made["report.json"]) == report
    assert rows(made, "duplicates.jsonl") == [{"name": "00.png", "of": "0.tiff"}, {"name": "copy.png", "of": "0.tiff"}]
    assert rows(made, "rejected.jsonl") == [
        {"name": "README.md", "reason": "not an image: looks like text"},
        {"name": "cut.png", "reason": "truncated"},
        {"name": "sub/README.md", "reason": "not an image: looks like text"},
    ]
    shard_files = {"train-00000.npy", "holdout-00000.npy", "index.json", "images.jsonl"}
    assert made.keys() == shard_files | {
        "report.json",
        "report.html",
        "preview.png",
        "rejected.jsonl",
        "pairs.jsonl",
        "duplicates.jsonl",
    }


@pytest.mark.parametrize("channels", [3, 4])
def test_shards_hold_the_pictures_by_content_digest(tmp_path, monkeypatch, channels):
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 * 8 * channels * 5)
    monkeypatch.setattr(taking, "BATCH_IMAGES", 7)
    params = replace(PARAMS, channels=channels)
    _, made = run(tmp_path, FILES, params)
    pictures = {}
    for name, content in FILES:
        seen = visible_pixels(next(decode(content, all_frames=False, max_pixels=10**6)).image)
        square = fit(premultiply(seen), 0, params)
        pixels = composite(square, (0x10, 0x20, 0x30)) if channels == 3 else transparent(square)
        pictures[content_digest(seen)] = (name, pixels)
    for split in ("train", "holdout"):
        digests = [
            d for d in sorted(pictures) if holds_out(np.frombuffer(d, np.uint8)[None], 0.3)[0] == (split == "holdout")
        ]
        files = sorted(name for name in made if name.startswith(split))
        assert len(files) == -(-len(digests) // 5)
        stored = np.concatenate([np.load(io.BytesIO(made[name])) for name in files])
        np.testing.assert_array_equal(stored, np.stack([pictures[digest][1] for digest in digests]))
        listed = [row for row in rows(made, "images.jsonl") if row["split"] == split]
        assert listed == [{"split": split, "digest": d.hex(), "name": pictures[d][0]} for d in digests]


def test_order_names_batches_and_workers_change_nothing(tmp_path, monkeypatch):
    shuffled = random.Random(3).sample(FILES, len(FILES))
    first = run(tmp_path / "a", FILES)[1]
    assert run(tmp_path / "b", shuffled)[1] == first
    with executor(preload="components.data.preparation") as spread:
        assert run(tmp_path / "c", shuffled, spread=spread)[1] == first
    monkeypatch.setattr(taking, "BATCH_IMAGES", 3)
    assert run(tmp_path / "d", shuffled)[1] == first
    renamed = [(f"x{name}", content) for name, content in FILES]
    again = run(tmp_path / "e", renamed)[1]
    assert all(again[name] == first[name] for name in first if name.endswith((".npy", "index.json", "preview.png")))


def test_one_more_image_moves_no_other(tmp_path):
    before, after = run(tmp_path / "a", FILES)[1], run(tmp_path / "b", [*FILES, ("new.png", picture(77))])[1]
    for split in ("train", "holdout"):
        old, new = (
            {image.tobytes() for image in np.load(io.BytesIO(made[f"{split}-00000.npy"]))} for made in (before, after)
        )
        assert old <= new


def animation(shades):
    frames = [Image.new("RGBA", (6, 6), (shade, 0, 0, 255)) for shade in shades]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_all_frames_are_counted_by_choice(tmp_path):
    files = [*FILES, ("walk.png", animation([10, 90, 10, 200])), ("again.png", animation([10, 90, 10, 200]))]
    first = run(tmp_path / "a", files)[0]
    assert (first["in"], first["kept"], first["duplicates"]) == (42, 41, 1)
    report, made = run(tmp_path / "b", files, replace(PARAMS, frames="all"))
    assert (report["in"], report["kept"], report["duplicates"]) == (
        48,
        43,
        5,
    )  # 2 files of 4 frames, 3 of them different
    assert {row["name"] for row in rows(made, "images.jsonl")} >= {"again.png", "again.png#1", "again.png#3"}


def test_what_a_crop_leaves_nothing_of_is_rejected(tmp_path):
    strip = np.zeros((16, 64, 4), np.uint8)
    strip[:, [0, 63]] = 255
    report, made = run(tmp_path, [*FILES, ("ends.png", png(strip))], replace(PARAMS, shape="crop"))
    assert (report["in"], report["kept"], report["rejected"]) == (41, 40, 1)
    assert rows(made, "rejected.jsonl") == [{"name": "ends.png", "reason": "nothing visible within the frame"}]


def test_pictures_of_one_name_are_told_apart(tmp_path, creatures):
    """As two parts of a descriptor may have them, or one archive."""
    both = [creatures[0], ImageOps.mirror(creatures[0]), *creatures[1:20]]
    report, _ = run(tmp_path, [("one.png", png(np.asarray(image))) for image in both], replace(PARAMS, resolution=32))
    assert report["kept"] == len(both)
    groups = train_groups(tmp_path / "shards", report["train"])
    assert len(set(groups.tolist())) < len(groups) == report["train"]


def test_the_first_folder_is_the_label_by_choice(tmp_path):
    files = [(f"{'cat' if n % 2 else 'dog'}/{name}", content) for n, (name, content) in enumerate(FILES)]
    _, made = run(tmp_path / "a", [*files, ("loose.png", picture(50))], replace(PARAMS, labels=True))
    index = json.loads(made["index.json"])
    assert index["labels"]["names"] == ["cat", "dog", "no label"]
    for split in ("train", "holdout"):
        numbers = np.load(io.BytesIO(made[index["labels"][split]["file"]]))
        said = [row["label"] for row in rows(made, "images.jsonl") if row["split"] == split]
        assert [index["labels"]["names"][number] for number in numbers] == said
    assert index["digest"] != json.loads(run(tmp_path / "b", files)[1]["index.json"])["digest"]


@pytest.fixture(scope="module")
def creatures():
    return [Image.fromarray(draw_creature(3, index, 64)) for index in range(30)]


def test_those_alike_are_reported_and_by_choice_dropped(tmp_path, creatures):
    files = [(f"{n:02d}.png", png(np.asarray(image))) for n, image in enumerate(creatures)]
    files += [
        ("m00.png", png(np.asarray(ImageOps.mirror(creatures[0])))),
        ("s01.png", png(np.asarray(creatures[1].resize((60, 60))))),
    ]
    params = replace(PARAMS, resolution=32)
    report, made = run(tmp_path / "a", files, params)
    assert (report["kept"], report["similar"]) == (32, 0)
    found = {(row["kind"], *sorted((row["first"], row["second"]))) for row in rows(made, "pairs.jsonl")}
    assert {("mirrors", "00.png", "m00.png"), ("near_duplicates", "01.png", "s01.png")} <= found
    side = {row["name"]: row["split"] for row in rows(made, "images.jsonl")}
    assert side["00.png"] == side["m00.png"]
    assert side["01.png"] == side["s01.png"]
    assert b"m00.png" in made["report.html"]
    report, made = run(tmp_path / "b", files, replace(params, near_duplicates="drop", mirrors="drop"))
    assert report["similar"] == len([row for row in rows(made, "rejected.jsonl") if " of " in row["reason"]]) >= 2
    assert {"name": "s01.png", "reason": "near-duplicate of 01.png"} in rows(made, "rejected.jsonl")
    names = {row["name"] for row in rows(made, "images.jsonl")}
    assert len(names & {"00.png", "m00.png"}) == 1
    report, made = run(
        tmp_path / "c", files, replace(params, near_duplicates="ignore", mirrors="ignore", recolours="ignore")
    )
    assert (report["kept"], made["pairs.jsonl"]) == (32, b"")


def test_hostile_names_do_no_harm_to_the_page(tmp_path):
    files = [*FILES, ("<script>alert(1)</script>.png", FILES[0][1]), ("a\udcff.png", FILES[1][1])]
    made = run(tmp_path, [(f"<b>{name}", content) for name, content in files])[1]
    assert b"<script>" not in made["report.html"]
    assert b"<b>" not in made["report.html"]


def test_a_damaged_bucket_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    write_buckets(FILES, tmp_path / "raw")
    bucket = next((tmp_path / "raw").glob("*.tar"))
    content = bytearray(bucket.read_bytes())
    content[512 + 20] ^= 1
    bucket.write_bytes(bytes(content))
    with (
        executor(preload="components.data.preparation") as spread,
        pytest.raises(InputError, match="is damaged; allowed"),
    ):
        prepare(tmp_path / "raw", tmp_path / "out", PARAMS, spread)


def test_a_file_that_kills_every_worker_is_narrowed_down_to_its_batch(tmp_path):
    def killed(function, tasks):
        yield function(next(tasks))
        raise WorkerKilledError(next(tasks))

    files = [(f"{n:03d}.png", picture(n)) for n in range(100)]
    with pytest.raises(
        InputError, match=r"a file from '\d+.png' to '\d+.png' kills each worker that takes it; allowed"
    ):
        run(tmp_path, files, spread=killed)


def test_no_usable_image_is_refused_with_the_reasons(tmp_path):
    with pytest.raises(InputError, match="no usable image: 2 not an image: looks like text, 1 truncated; allowed: PNG"):
        run(tmp_path, ODD[2:])


def test_one_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="of 1 different images; allowed: at least 2 in each"):
        run(tmp_path, FILES[:1] * 10)


@pytest.mark.skipif(not DATA.exists(), reason="shared data absent: ../shared/data/tuxemon.zip")
def test_the_tuxemon_sprites(tmp_path):
    params = replace(PARAMS, resolution=64, background="#ffffff", holdout=0.1)
    report, made = run(tmp_path, read_source(DATA / "tuxemon.zip"), params)
    assert (report["in"], report["rejected"]) == (757, 1)
    assert report["kept"] + report["duplicates"] == 756
    assert rows(made, "rejected.jsonl") == [
        {"name": "tuxemon/ATTRIBUTIONS.md", "reason": "not an image: looks like text"}
    ]
    train = np.load(io.BytesIO(made["train-00000.npy"]))
    assert train.shape == (report["train"], 64, 64, 3)
    # sprites stand on white: most corner pixels are background, and no image is blank
    assert (train[:, 0, 0] == 255).all(axis=-1).mean() > 0.8
    assert (train.reshape(len(train), -1).min(axis=1) < 128).all()
    # pixel art at its own size is not touched: its few colours stay few
    assert report["pixel_art"] > 0.8 * report["kept"]
    assert np.median([len(np.unique(image.reshape(-1, 3), axis=0)) for image in train[:100]]) <= 64
