"""Pages: sizes, enlargement, captions, what is flipped or flagged, and films that stay small."""

import io

import numpy as np
import pytest
from PIL import Image

from components.data.images import save_png, straight
from components.evaluation import pictures as pages
from components.evaluation.intervals import share
from components.evaluation.memorisation import Memorisation, Nearest
from components.evaluation.pictures import CAPTION_HEIGHT, closest_pairs, comparison, frames, on_checker, page


def images(count, size):
    return np.random.default_rng(0).integers(0, 200, (count, size, size, 3), dtype=np.uint8)


def test_small_images_are_enlarged_to_whole_squares():
    pictures = images(64, 32)
    found = page(pictures, columns=8)
    assert found.shape == (8 * 98 + 2, 8 * 98 + 2, 3)
    np.testing.assert_array_equal(found[2 : 2 + 96 : 3, 100 : 100 + 96 : 3], pictures[1])
    np.testing.assert_array_equal(found[4 : 4 + 96 : 3, 102 : 102 + 96 : 3], pictures[1])


def test_large_images_keep_their_size():
    assert page(images(4, 256), columns=4).shape == (260, 4 * 258 + 2, 3)


def test_rows_stand_under_their_captions():
    pictures = images(12, 32)
    found = comparison({"real": pictures, "generated": pictures})
    row = page(pictures, columns=12)
    assert found.shape == (2 * (CAPTION_HEIGHT + len(row)), row.shape[1], 3)
    for top in (0, CAPTION_HEIGHT + len(row)):
        assert found[top : top + CAPTION_HEIGHT].min() < 100
        np.testing.assert_array_equal(found[top + CAPTION_HEIGHT : top + CAPTION_HEIGHT + len(row)], row)


def test_alpha_shows_a_checkerboard():
    clear, solid, half = (
        np.tile(np.uint8(pixel), (1, 16, 16, 1)) for pixel in ([0] * 4, [9, 8, 7, 255], [40] * 3 + [128])
    )
    board = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((2, 2), int))
    np.testing.assert_array_equal(on_checker(clear)[0, ..., 0], np.where(board, 226, 255))
    np.testing.assert_array_equal(on_checker(solid), solid[..., :3])
    expected = 40 + np.rint(np.where(board, 226, 255) * 127 / 255)
    np.testing.assert_array_equal(on_checker(half)[0], np.repeat(expected[..., None], 3, axis=2))
    np.testing.assert_array_equal(page(half, columns=1), page(on_checker(half), columns=1))
    assert on_checker(images(2, 8)).tobytes() == images(2, 8).tobytes()


def test_cards_keep_their_proportions_and_square_checks():
    card = np.full((1, 32, 24, 4), 255, np.uint8)
    card[..., :3] = 9
    (tile,) = pages._tiles(card)
    expected = np.full((128, 128, 3), 255)
    expected[:, 16:112] = 9
    np.testing.assert_array_equal(np.asarray(tile), expected)
    board = on_checker(np.zeros((1, 32, 24, 4), np.uint8))[0, ..., 0]
    np.testing.assert_array_equal(
        board, np.where(np.kron(np.indices((11, 8)).sum(0) % 2, np.ones((3, 3)))[:32], 226, 255)
    )


@pytest.mark.parametrize("size", [32, 128, 256])
def test_closest_pairs_stand_in_order_flipped_as_matched_and_framed_when_flagged(size):
    scores = np.array([0.9, 0.1, 0.5, 0.3, 0.7])
    mirrored = np.array([True, True, False, False, False])
    found = Memorisation(Nearest(np.arange(5), mirrored, scores), 0.3, 0.01, share(2, 5))
    assert found.flagged.tolist() == [1, 3]
    assert found.closest(4).tolist() == [1, 3, 2, 4]
    samples, trains = images(8, size)[:4], images(8, size)[4:]
    sheet = closest_pairs(samples, trains, found)
    matches = np.concatenate([trains[:1, :, ::-1], trains[1:]])
    top = pages.HEADER_HEIGHT + CAPTION_HEIGHT
    shrink, grow = max(1, size // 128), max(1, 128 // size)
    for place in range(4):
        left = place * (2 * 128 + 3 * 8) + 8
        for image, x in ((samples[place], left), (matches[place], left + 128 + 8)):
            shown = sheet[top : top + 128, x : x + 128].astype(float)
            whole = image.repeat(grow, 0).repeat(grow, 1).reshape(128, shrink, 128, shrink, 3).mean((1, 3))
            assert np.abs(shown - whole).max() <= 1  # Pillow rounds rows, then columns
        frame = sheet[top - 4 : top + 132, left - 4]
        assert (frame == (pages.MARKED if place < 2 else 255)).all()
    assert sheet[: pages.HEADER_HEIGHT].min() < 100


def film_of(tmp_path, count, picture):
    paths = [tmp_path / f"{number:03d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        save_png(path, picture(number))
    film = frames(paths)
    opened = Image.open(io.BytesIO(film))
    assert opened.format == "WEBP"
    return len(film), opened


def durations(film):
    found = []
    for number in range(film.n_frames):
        film.seek(number)
        film.load()
        found.append(film.info["duration"])
    return found


def test_a_film_shows_every_picture_of_a_short_run_exactly(tmp_path):
    pictures = images(5, 24).repeat(2, axis=2)
    _, film = film_of(tmp_path, 5, lambda number: pictures[number])
    assert (film.n_frames, film.size, film.info["loop"]) == (5, (720, 360), 0)
    assert durations(film) == [150, 150, 150, 150, 2000]
    film.seek(3)
    np.testing.assert_array_equal(np.asarray(film.convert("RGB"))[::15, ::15], pictures[3])


def test_a_long_run_is_thinned_evenly(tmp_path):
    _, film = film_of(tmp_path, 237, lambda number: np.full((8, 8, 3), number, np.uint8))
    assert film.n_frames == 60
    shown = []
    for number in range(60):
        film.seek(number)
        shown.append(int(np.asarray(film.convert("RGB"))[0, 0, 0]))
    assert shown == [*range(0, 237, 4)]


def test_a_film_stays_small(tmp_path, monkeypatch):
    noise = np.random.default_rng(0)
    monkeypatch.setattr(pages, "FILM_BYTES", 200_000)
    size, film = film_of(tmp_path, 12, lambda number: noise.integers(0, 256, (300, 1000, 3), dtype=np.uint8))
    assert size <= 200_000
    assert film.size == (720, 216)
    assert 2 <= film.n_frames < 12


def test_a_film_of_one_picture_with_alpha(tmp_path):
    half = np.tile(np.uint8([40, 40, 40, 128]), (16, 16, 1))
    _, film = film_of(tmp_path, 1, lambda _: straight(half))
    np.testing.assert_array_equal(np.asarray(film.convert("RGB"))[::45, ::45], on_checker(half[None])[0])
