"""What is kept and on which side of the split, on rows whose answer is known."""

import hashlib

import numpy as np
import pytest

from components.config import InputError, Preprocess
from components.data.buckets import Original
from components.data.selection import dropped, duplicates, holds_out, select
from components.data.taking import ROW
from tests.preprocessing import PARAMS

COUNT = 60


def params(**choices):
    return Preprocess(**{**vars(PARAMS), **choices})


def rows(count=COUNT, seed=0):
    """Pictures of as many originals, all unlike one another."""
    rng = np.random.default_rng(seed)
    table = np.zeros(count, ROW)
    table["original"] = np.arange(count)
    table["digest"] = [np.frombuffer(hashlib.sha256(str(n).encode()).digest(), np.uint8) for n in range(count)]
    table["hashes"] = rng.integers(0, 256, (count, 3, 32))
    table["width"] = table["height"] = 10
    return table


ORIGINALS = [Original(f"{n:064x}", 512, 1, (f"{n:02d}.png", f"z/{n}.png")) for n in range(COUNT)]


def test_one_of_each_content_is_kept_sorted_by_digest():
    table = rows()
    table["digest"][7] = table["digest"][3]
    table["hashes"][7] = table["hashes"][3]
    for order in (np.arange(COUNT), np.random.default_rng(1).permutation(COUNT)):
        chosen = select(table[order], ORIGINALS, PARAMS)
        assert len(chosen.rows) == COUNT - 1
        digests = [digest.tobytes() for digest in chosen.rows["digest"]]
        assert digests == sorted(digests)
        assert "03.png" in chosen.names
        assert "07.png" not in chosen.names
        rows_ = {(row["name"], row["of"]) for row in duplicates(chosen, ORIGINALS)}
        assert {("07.png", "03.png"), ("z/7.png", "03.png"), ("z/3.png", "03.png"), ("z/0.png", "00.png")} <= rows_
        assert len(rows_) == COUNT + 1


def test_the_split_goes_by_the_last_32_bits():
    digest = np.zeros((3, 32), np.uint8)
    digest[:, -4:] = [[0x19, 0x99, 0x99, 0x99], [0x19, 0x99, 0x99, 0x9A], [0, 0, 0, 0]]
    assert holds_out(digest, 0.1).tolist() == [True, False, True]  # 0x19999999 / 2**32 is just below 0.1


def test_more_images_move_none_to_the_other_split():
    few, many = select(rows(30), ORIGINALS, PARAMS), select(rows(60), ORIGINALS, PARAMS)
    side = dict(zip(many.names, many.held_out.tolist(), strict=True))
    assert all(side[name] == held_out for name, held_out in zip(few.names, few.held_out.tolist(), strict=True))


def test_those_alike_lie_on_one_side_and_the_share_stays():
    table = rows(COUNT)
    for group in range(0, COUNT, 6):  # ten groups of six
        table["hashes"][group : group + 6, 0] = table["hashes"][group, 0]
    many = np.concatenate([rows(COUNT, seed) for seed in range(40)])
    many["digest"] = [np.frombuffer(hashlib.sha256(f"m{n}".encode()).digest(), np.uint8) for n in range(len(many))]
    many["hashes"][:, 0] = many["hashes"][:, 0].repeat(6, axis=0)[: len(many)]
    for rows_, holdout in ((table, 0.3), (many, 0.2)):
        chosen = select(rows_, ORIGINALS, params(holdout=holdout))
        for root in np.unique(chosen.groups):
            assert len(set(chosen.held_out[chosen.groups == root])) == 1
        assert (np.unique(chosen.groups, return_counts=True)[1] >= 6).all()
    assert abs(chosen.held_out.mean() - 0.2) < 0.06  # 400 groups
    apart = select(table, ORIGINALS, params(near_duplicates="ignore"))
    assert len(set(apart.groups)) == COUNT


@pytest.mark.parametrize(("kind", "phrase"), [("near_duplicates", "near-duplicate"), ("recolours", "recolouring")])
def test_by_choice_the_largest_of_those_alike_is_kept(kind, phrase):
    table = rows()
    row = {"near_duplicates": 0, "recolours": 2}[kind]
    table["hashes"][[4, 5, 6], row] = table["hashes"][4, row]
    table["hashes"][[4, 5, 6], row, 0] ^= np.array([0, 1, 2], np.uint8)  # near, not equal
    table["width"][5] = 20
    assert select(table, ORIGINALS, PARAMS).kept.all()
    chosen = select(table, ORIGINALS, params(**{kind: "drop"}))
    assert {chosen.names[position] for position in np.flatnonzero(~chosen.kept)} == {"04.png", "06.png"}
    assert sorted(dropped(chosen), key=lambda lost: lost["name"]) == [
        {"name": "04.png", "reason": f"{phrase} of 05.png"},
        {"name": "06.png", "reason": f"{phrase} of 05.png"},
    ]


@pytest.mark.parametrize("near", ["ignore", "report"])
def test_what_is_alike_in_two_ways_is_dropped_for_either(near):
    table = rows()
    for row in (0, 2):
        table["hashes"][8, row] = table["hashes"][9, row]
        table["hashes"][8, row, 0] ^= 1
    table["hashes"][20] = table["hashes"][21]
    chosen = select(table, ORIGINALS, params(near_duplicates=near, recolours="drop"))
    lost = {chosen.names[position] for position in np.flatnonzero(~chosen.kept)}
    assert len(lost & {"08.png", "09.png"}) == len(lost & {"20.png", "21.png"}) == 1
    assert len(lost) == 2
    assert select(table, ORIGINALS, params(near_duplicates="drop", recolours="ignore")).kept.sum() == COUNT - 2
    assert select(table, ORIGINALS, params(near_duplicates="ignore", recolours="ignore", mirrors="drop")).kept.all()


def test_too_few_images_for_two_splits_are_refused():
    table = rows(3)
    table["digest"][:, -4:] = 255
    with pytest.raises(InputError, match=r"leaves 3 in train and 0 in holdout of 3 .* at least 2 in each: give more"):
        select(table, ORIGINALS, PARAMS)
