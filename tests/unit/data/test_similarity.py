"""Hashes against the library's, pairs against all comparisons, and altered copies of drawn creatures."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from components.data import similarity
from components.data.compositing import fit
from components.data.procedural import draw_creature
from components.data.similarity import KINDS, groups, hashes, pairs, thumbnail
from tests.preprocessing import PARAMS, planes_of

SIDE = 64


def thumbnails(images):
    squares = [fit(planes_of(image), 0, PARAMS_64) for image in images]
    return np.stack([thumbnail(square, 255) for square in squares])


PARAMS_64 = type(PARAMS)(**{**vars(PARAMS), "resolution": SIDE})


@pytest.fixture(scope="module")
def creatures():
    return [Image.fromarray(draw_creature(0, index, 96)) for index in range(60)]


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128, 512])
def test_a_thumbnail_is_the_mean_of_equal_areas(side):
    square = np.random.default_rng(0).integers(0, 256, (side, 4, side)).astype(np.float32)
    fine = square.astype(np.float64).repeat(max(1, 32 // side), 0).repeat(max(1, 32 // side), 2)
    part = fine.shape[0] // 32
    means = fine.reshape(32, part, 4, 32, part).mean((1, 4)).swapaxes(0, 1)
    np.testing.assert_array_equal(thumbnail(square, 255), np.floor(means))
    np.testing.assert_array_equal(thumbnail(square.astype(np.float64) * 257, 65535), np.floor(means))


def test_the_bits_are_imagehash_s(creatures):
    thumbs = thumbnails(creatures)
    planes = thumbs.astype(int)
    over_grey = planes[:, :3] + 128 * (255 - planes[:, 3:]) // 255
    luminance = (over_grey * [[[299]], [[587]], [[114]]]).sum(1) // 1000
    found = hashes(thumbs)
    for kind, greys in ((0, luminance), (1, luminance[:, :, ::-1])):
        for ours, grey in zip(found[:, kind], greys, strict=True):
            image = Image.fromarray(np.ascontiguousarray(grey.astype(np.uint8)))
            theirs = imagehash.phash(image, hash_size=16, highfreq_factor=2).hash.ravel()
            assert (np.unpackbits(ours) != theirs).sum() <= 2  # frequencies at the median itself may fall either way


def test_a_flat_picture_has_no_hash():
    flat = np.stack([np.full((4, 32, 32), value, np.uint8) for value in (255, 128)])
    flat[1, :3] = 128
    assert not hashes(flat).any()
    assert pairs(hashes(flat)) == []


def test_mirrors_of_mirrors_are_the_thing_itself(creatures):
    thumbs = thumbnails(creatures)
    plain, mirrored = hashes(thumbs), hashes(np.ascontiguousarray(thumbs[..., ::-1]))
    np.testing.assert_array_equal(plain[:, similarity.KINDS.index("mirrors")], mirrored[:, 0])


def saved_as_jpeg(image):
    flat = Image.new("RGBA", image.size, (128, 128, 128, 255))
    flat.alpha_composite(image)
    buffer = io.BytesIO()
    flat.convert("RGB").save(buffer, "JPEG", quality=85)
    return Image.open(buffer).convert("RGBA")


def recoloured(image):
    red, green, blue, alpha = image.split()
    return Image.merge("RGBA", (blue, red, green, alpha))


ALTERED = {
    "near_duplicates": [saved_as_jpeg, lambda image: image.resize((70, 70), Image.Resampling.LANCZOS)],
    "mirrors": [ImageOps.mirror, lambda image: ImageOps.mirror(ImageEnhance.Brightness(image).enhance(0.97))],
    "recolours": [recoloured],
}


@pytest.mark.parametrize("kind", KINDS)
def test_altered_copies_are_found_and_others_are_not(creatures, kind):
    for alter in ALTERED[kind]:
        altered = [alter(image) for image in creatures[:20]]
        found = pairs(hashes(thumbnails([*creatures, *altered])))
        true = {(position, len(creatures) + position) for position in range(20)}
        caught = {(pair.first, pair.second) for pair in found} & true
        assert len(caught) >= 18
        if kind != "recolours":  # a recolouring that keeps luminance is as well a near-duplicate
            assert sum(pair.kind == kind for pair in found if (pair.first, pair.second) in true) >= 15
        others = {(pair.first, pair.second) for pair in found} - true
        known = {(pair.first, pair.second) for pair in pairs(hashes(thumbnails(creatures)))}
        shadows = {(one % 60, two % 60) for one, two in others}
        assert all(tuple(sorted(ends)) in known or ends[0] == ends[1] for ends in shadows)


def test_pairs_are_all_that_lie_within_the_limits():
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (40, 3, 32), np.uint8)
    found = centres[rng.integers(0, 40, 400)]
    bits = np.unpackbits(found, axis=2)
    flips = rng.random(bits.shape) < rng.choice([0.01, 0.02, 0.03, 0.06], (400, 1, 1))
    found = np.packbits(bits ^ flips, axis=2)
    found[::7, 1] = found[rng.integers(0, 400, 58), 0]  # some are the mirrored of others
    found[5] = 0

    def close(left, right, limit):
        distance = np.bitwise_count(left[:, None] ^ right[None]).sum(2, dtype=int)
        one, two = np.nonzero(distance <= limit)
        return {
            (min(i, j), max(i, j))
            for i, j in zip(one.tolist(), two.tolist(), strict=True)
            if i != j and 5 not in (i, j)
        }

    near = close(found[:, 0], found[:, 0], similarity.LUMINANCE_BITS)
    mirrors = close(found[:, 0], found[:, 1], similarity.LUMINANCE_BITS)
    recolours = close(found[:, 2], found[:, 2], similarity.EDGE_BITS)
    by_kind = {kind: {(p.first, p.second) for p in pairs(found) if p.kind == kind} for kind in KINDS}
    assert by_kind["near_duplicates"] == near
    assert by_kind["mirrors"] == mirrors - near
    assert by_kind["recolours"] == recolours - mirrors - near
    assert min(map(len, by_kind.values())) > 10


def test_equal_hashes_are_chained():
    found = np.random.default_rng(0).integers(0, 256, (3, 3, 32), np.uint8)[[0] * 1000 + [1, 2]]
    alike = pairs(found)
    assert len(alike) == 999
    np.testing.assert_array_equal(groups(1002, alike), [0] * 1000 + [1000, 1001])


def test_groups_are_what_pairs_connect():
    alike = [similarity.Pair("mirrors", *ends, 0) for ends in ((1, 4), (4, 6), (2, 3), (0, 6))]
    assert groups(8, alike).tolist() == [0, 0, 2, 2, 0, 5, 0, 7]
