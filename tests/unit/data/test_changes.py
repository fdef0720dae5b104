"""What changed between two versions of the data, told in words."""

from dataclasses import replace

import pytest

from components.data.changes import Image, Version, describe

PARAMS = {"resolution": 32, "holdout": 0.1}
REPORT = {"in": 6, "kept": 4, "rejected": 1, "duplicates": 1, "train": 3, "holdout": 1, "preprocess": PARAMS}
IMAGES = {
    digest: Image(split="holdout" if digest == "d" else "train", name=f"{digest}.png", label="cat") for digest in "abcd"
}
BASE = Version(digest="1" * 64, images=IMAGES, rejected={"bad.png": "not an image"}, report=REPORT)


def changed(**values):
    return replace(BASE, digest="2" * 64, **values)


def test_the_same_data():
    assert describe(BASE, BASE) == ["the same data"]


def test_images_new_and_gone_by_content_not_by_name():
    images = {**IMAGES, "e": replace(IMAGES["a"], name="0.png"), "f": replace(IMAGES["a"], name="a.png")}
    del images["b"]
    report = REPORT | {"in": 7, "kept": 5, "train": 4}
    assert describe(BASE, changed(images=images, report=report)) == [
        "other data",
        "counts: in 6 → 7, kept 4 → 5, train 3 → 4",
        "new: 2 (0.png, a.png)",
        "gone: 1 (b.png)",
    ]


def test_a_new_name_is_no_new_image():
    images = {digest: replace(image, name=f"moved/{image.name}") for digest, image in IMAGES.items()}
    assert describe(BASE, replace(BASE, images=images)) == ["the same data"]


def test_only_the_first_names_are_told():
    images = IMAGES | {f"{number:02d}": replace(IMAGES["a"], name=f"{number:02d}.png") for number in range(30, 10, -1)}
    told = describe(BASE, changed(images=images))
    assert told == ["other data", "new: 20 (11.png, 12.png, 13.png, 14.png, 15.png, …)"]


def test_moved_and_relabelled():
    images = IMAGES | {
        "a": replace(IMAGES["a"], split="holdout"),
        "b": replace(IMAGES["b"], split="holdout", label="dog"),
        "d": replace(IMAGES["d"], split="train"),
    }
    assert describe(BASE, changed(images=images)) == [
        "other data",
        "moved from holdout to train: 1",
        "moved from train to holdout: 2",
        "relabelled: 1 (b.png)",
    ]


def test_params():
    params = {"resolution": 64, "holdout": 0.1, "background": "#ffffff"}
    assert describe(BASE, changed(report=REPORT | {"preprocess": params})) == [
        "other data",
        "preprocess.resolution: 32 → 64",
        'preprocess.background: not set → "#ffffff"',
    ]


def test_rejections_are_counted_by_reason():
    rejected = {"1.png": "too small", "2.png": "not an image", "3.png": "not an image", "4.png": "one colour"}
    assert describe(BASE, replace(BASE, rejected=rejected)) == [
        "the same data",
        "rejected now: 2 not an image, 1 one colour, 1 too small",
        "no longer rejected: 1 not an image",
    ]
    assert describe(BASE, replace(BASE, rejected={"bad.png": "too small"})) == [
        "the same data",
        "rejected now: 1 too small",
    ]


@pytest.mark.parametrize("value", [32, 64])
def test_other_pixels_of_the_same_images(value):
    """Without a parameter that explains them it is the code, and is said."""
    told = describe(BASE, changed(report=REPORT | {"preprocess": PARAMS | {"resolution": value}}))
    by_code = ["the same images with other pixels or in another order: the code of preprocess changed"]
    assert told == ["other data", *(by_code if value == 32 else ["preprocess.resolution: 32 → 64"])]
