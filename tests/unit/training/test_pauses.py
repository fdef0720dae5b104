"""Pauses in mid-tick change nothing; a run that goes another way takes the images that lie further on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.config import load_params
from components.data.dataset import ImageSet
from components.training import state
from components.training.loop import AGREE_EVERY, GO_ON, SAVE, STOP, Trainer
from components.training.records import TRIES, begin, note, roll_back, take_up
from components.training.run_files import NOTICE, RESIZE, ROLLBACKS
from components.training.run_files import STOP as STOP_FILE
from components.training.stopping import Pause

PARAMS = load_params("params.yaml").train
TINY = replace(
    PARAMS,
    **{"arch": "dcgan", "batch": 4, "total_kimg": 0.16, "channel_base": 32, "channel_max": 4, "latent_dim": 4},
)
CPU = torch.device("cpu")
CLOCKS = ("images_per_s", "seconds", "time", "memory_gib")


@pytest.fixture
def data():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    return ImageSet([pixels], "digest")


def comparable(tick):
    return {key: value for key, value in tick.record.items() if key not in CLOCKS}


def tensors(trainer):
    return {name: tensor.clone() for name, tensor in trainer.state().tensors.items()}


@pytest.mark.parametrize("said", [SAVE, STOP])
def test_a_run_that_pauses_all_the_time_is_the_same_run(data, tmp_path, said):
    """With a new trainer from the checkpoint after each pause, at the beginning, in mid-tick and just at a tick."""
    undisturbed = Trainer(TINY, data, CPU)
    expected = [comparable(tick) for tick in undisturbed.run(tick_kimg=0.048)]
    answers = iter([said, GO_ON] * 100)
    trainer, found, paused_at = Trainer(TINY, data, CPU), [], []
    while trainer.nimg < 160:
        for tick in trainer.run(tick_kimg=0.048, pause=lambda: next(answers)):
            found.append(comparable(tick))
        if trainer.nimg < 160:
            assert trainer.paused == said
            paused_at.append(trainer.nimg)
            state.save(trainer.state(), tmp_path / "1")
            trainer = Trainer(TINY, data, CPU)
            trainer.restore(state.load(tmp_path / "1"))
    step = 4 * AGREE_EVERY
    assert paused_at == [0, *range(step, 160, step)]
    assert found == expected
    assert {int(record["nimg"]) for record in found} == {48, 96, 144, 160}
    last = tensors(undisturbed)
    assert all(torch.equal(tensor, last[name]) for name, tensor in tensors(trainer).items())


def test_what_is_passed_over_is_what_comes_next_in_the_order(data):
    """Eight images on, a run takes the way that one takes which began eight images on."""
    there = Trainer(TINY, data, CPU)
    there.passed_over = [(0, 8), (100, 4)]
    assert there.place == 8
    here = Trainer(TINY, data, CPU)
    here.nimg = 8
    for trainer in (there, here):
        trainer.step()
    mine, other = tensors(there), tensors(here)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert there.nimg == 4
    there.nimg = 100
    assert there.place == 112


def test_going_back_notes_what_to_pass_over_and_gives_up_the_third_time(data, tmp_path):
    run = tmp_path / "run"
    trainer = Trainer(TINY, data, CPU)
    begin(trainer, run, take_up(trainer, run))
    for _ in range(5):
        trainer.step()
    state.save(trainer.state(), run / "checkpoints" / f"{trainer.nimg:09d}")
    assert roll_back(run, 48, "a loss is not finite") == ""
    again = Trainer(TINY, data, CPU)
    take_up(again, run)
    assert (again.nimg, again.place) == (20, 48)
    assert roll_back(run, 60, "a loss is not finite") == ""
    take_up(again, run)
    assert (again.nimg, again.place) == (20, 20 + 28 + 40)
    assert TRIES == 2
    assert roll_back(run, 60, "a loss is not finite") == (
        "a loss is not finite; the 3. time in a row from 0.02 kimg on, each time with other images"
    )
    again.nimg = 24
    state.save(again.state(), run / "checkpoints" / f"{again.nimg:09d}")
    assert roll_back(run, 60, "a loss is not finite") == ""


def test_half_a_line_of_a_killed_writer_goes_with_the_next_note(tmp_path):
    path = tmp_path / ROLLBACKS
    path.write_text('{"nimg": 1}\n{"nimg": ')
    note(path, nimg=2)
    assert [line.partition(",")[0] for line in path.read_text().splitlines()] == ['{"nimg": 1}', '{"nimg": 2']


def test_the_first_worker_passes_orders_on_and_a_notice_once(tmp_path):
    first, second = (Pause(tmp_path, rank) for rank in (0, 1))
    assert (first(), second()) == (GO_ON, GO_ON)
    (tmp_path / NOTICE).touch()
    assert [(first(), second()) for _ in range(2)] == [(SAVE, GO_ON), (GO_ON, GO_ON)]
    (tmp_path / RESIZE).touch()
    assert (first(), second()) == (STOP, GO_ON)
    (tmp_path / RESIZE).unlink()
    (tmp_path / STOP_FILE).touch()
    assert [(first(), second()) for _ in range(2)] == [(STOP, GO_ON)] * 2


def test_a_pause_does_not_keep_weights_that_are_not_finite(data):
    trainer = Trainer(TINY, data, CPU)
    with torch.no_grad():
        next(trainer.players.generator.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at 0\.0 kimg: in mid-tick"):
        next(trainer.run(tick_kimg=0.048, pause=lambda: STOP))
