"""Hashes against the library's, pairs against all comparisons, and altered copies of drawn creatures."""

import io

import imagehash
import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageEnhance, ImageOps

from components.data import similarity
from components.data.procedural import draw_creature
from components.data.similarity import KINDS, groups, hashes, pairs, thumbnail
from tests.preprocessing import planes_of


def thumbnails(images):
    return np.stack([thumbnail(planes_of(image)) for image in images])


@pytest.fixture(scope="module")
def creatures():
    return [Image.fromarray(draw_creature(0, index, 96)) for index in range(60)]


def test_a_thumbnail_is_the_picture_squeezed():
    picture = np.full((50, 4, 20), 200, np.uint8)
    picture[:25] = 0
    made = thumbnail(picture)
    assert made.shape == (32, 4, 32)
    assert (made[:12] == 0).sum() > 0.8 * made[:12].size
    assert (made[20:] == 200).all()


def test_the_bits_are_imagehash_s(creatures):
    thumbs = thumbnails(creatures)
    planes = thumbs.swapaxes(1, 2).astype(int)
    over_grey = planes[:, :3] + 128 * (255 - planes[:, 3:]) // 255
    luminance = (over_grey * [[[299]], [[587]], [[114]]]).sum(1) // 1000
    found = hashes(thumbs)
    for kind, greys in ((0, luminance), (1, luminance[:, :, ::-1])):
        for ours, grey in zip(found[:, kind], greys, strict=True):
            pixels = np.ascontiguousarray(grey.astype(np.uint8))
            theirs = imagehash.phash(Image.fromarray(pixels), hash_size=16, highfreq_factor=2).hash.ravel()
            low = scipy.fft.dctn(pixels.astype(float))[:16, :16].ravel()
            # A symmetric picture's odd frequencies are 0, and so may the median be: there theirs is rounding noise.
            decided = np.abs(low - np.median(low)) > 1e-4 * np.abs(low).max()
            assert decided.sum() > 60
            np.testing.assert_array_equal(np.unpackbits(ours)[decided], theirs[decided])


def test_a_flat_picture_has_no_hash():
    flat = np.stack([np.full((32, 4, 32), value, np.uint8) for value in (255, 128)])
    assert not hashes(flat).any()
    assert len(pairs(hashes(flat))) == 0


def test_mirrors_of_mirrors_are_the_thing_itself(creatures):
    thumbs = thumbnails(creatures)
    plain, mirrored = hashes(thumbs), hashes(np.ascontiguousarray(thumbs[..., ::-1]))
    np.testing.assert_array_equal(plain[:, similarity.KINDS.index("mirrors")], mirrored[:, 0])


def listed(found):
    """(kind, (first, second)) of each pair."""
    return [(KINDS[kind], (first, second)) for kind, _, first, second in pairs(found).tolist()]


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
        found = listed(hashes(thumbnails([*creatures, *altered])))
        true = {(position, len(creatures) + position) for position in range(20)}
        caught = {ends for _, ends in found} & true
        assert len(caught) >= 18
        if kind != "recolours":  # a recolouring that keeps luminance is as well a near-duplicate
            assert sum(name == kind for name, ends in found if ends in true) >= 15
        others = {ends for _, ends in found} - true
        known = {ends for _, ends in listed(hashes(thumbnails(creatures)))}
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
    by_kind = {kind: {ends for name, ends in listed(found) if name == kind} for kind in KINDS}
    assert by_kind["near_duplicates"] == near
    assert by_kind["mirrors"] == mirrors - near
    assert by_kind["recolours"] == recolours - mirrors - near
    assert min(map(len, by_kind.values())) > 10


def test_equal_hashes_are_chained():
    found = np.random.default_rng(0).integers(0, 256, (3, 3, 32), np.uint8)[[0] * 1000 + [1, 2]]
    alike = pairs(found)
    assert len(alike) == 999
    np.testing.assert_array_equal(groups(1002, alike), [0] * 1000 + [1000, 1001])


def test_where_very_many_are_alike_work_is_bounded_and_the_group_is_found():
    rng = np.random.default_rng(0)
    bits = np.unpackbits(rng.integers(0, 256, (1, 3, 32), np.uint8), axis=2).repeat(3000, axis=0)
    for row in bits:
        row[:, rng.integers(0, 256, 4)] ^= 1
    alike = pairs(np.packbits(bits, axis=2))
    assert len(alike) <= 3 * 16 * similarity.REACH * 3000
    assert (groups(3000, alike) == 0).all()


def test_groups_are_what_pairs_connect():
    def of(count, ends):
        alike = np.zeros(len(ends), similarity.PAIR)
        alike["first"], alike["second"] = np.array(ends).T
        return groups(count, alike)

    assert of(8, [(1, 4), (4, 6), (2, 3), (0, 6)]).tolist() == [0, 0, 2, 2, 0, 5, 0, 7]
    rng = np.random.default_rng(0)
    for _ in range(20):
        ends = np.sort(rng.integers(0, 200, (150, 2)), axis=1)
        expected = np.arange(200)
        while True:  # as slowly as possible
            before = expected.copy()
            for one, two in ends:
                expected[one] = expected[two] = min(expected[one], expected[two])
            if (before == expected).all():
                break
        np.testing.assert_array_equal(of(200, ends), expected)
