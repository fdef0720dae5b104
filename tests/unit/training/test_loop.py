"""The training loop: exact resume, growth in its records, learning that beats chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.config import ARCHS, load_params
from components.data.dataset import ImageSet, batch_indices
from components.training import state
from components.training.loop import Trainer

PARAMS = load_params("params.yaml").train
TINY = replace(
    PARAMS,
    batch=8,
    total_kimg=0.16,
    channel_base=64,
    channel_max=8,
    latent_dim=8,
    ema_kimg=0.02,
    stylegan=replace(PARAMS.stylegan, start_resolution=8, stable_kimg=0.04, fade_kimg=0.04),
)
CPU = torch.device("cpu")


@pytest.fixture
def data():
    """Discs of random place and colour on white, 16²."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    images = np.full((50, 16, 16, 3), 255, np.uint8)
    for image in images:
        inside = (x - random.integers(5, 11)) ** 2 + (y - random.integers(5, 11)) ** 2 < 16
        image[inside] = random.integers(0, 200, 3)
    return ImageSet([images], "digest")


def finish(trainer):
    return list(trainer.run(tick_kimg=0.016))


def comparable(record):
    return {key: value for key, value in record.items() if key not in ("images_per_s", "seconds", "time", "memory_gib")}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ticks", [1, 4, 7])
def test_stopping_and_going_on_is_the_same_as_not_stopping(data, tmp_path, dtype, ticks):
    config = replace(TINY, dtype=dtype)
    undisturbed = Trainer(config, data, CPU)
    expected = finish(undisturbed)
    first = Trainer(config, data, CPU)
    run = first.run(tick_kimg=0.016)
    seen = [next(run) for _ in range(ticks)]
    state.save(first.state(), tmp_path / "000000001")
    second = Trainer(config, data, CPU)
    second.restore(state.load(tmp_path / "000000001"))
    seen += finish(second)
    assert [comparable(tick.record) for tick in seen] == [comparable(tick.record) for tick in expected]
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(one.grid, other.grid)
    for name, tensor in undisturbed.state().tensors.items():
        torch.testing.assert_close(second.state().tensors[name], tensor, rtol=0, atol=0, msg=name)


def test_records_show_every_level_and_its_fade(data):
    records = [tick.record for tick in finish(Trainer(TINY, data, CPU))]
    assert [record["nimg"] for record in records] == [16, 32, 48, 64, 80, 96, 112, 128, 144, 160]
    assert {(record["resolution"], record["alpha"] < 1) for record in records} == {(8, False), (16, True), (16, False)}


@pytest.mark.parametrize("world", [1, 2])
def test_half_of_the_images_are_mirrored(data, world):
    """And the same ones, however many workers share them."""
    config = replace(TINY, mirror=True, batch=48, stylegan=replace(TINY.stylegan, start_resolution=16))
    plain = Trainer(replace(config, mirror=False), data, CPU)
    expected, _ = plain._next_batch(plain.phase, torch.Generator())

    def shown_by(world):
        trainers = [Trainer(config, data, CPU, rank=rank, world=world) for rank in range(world)]
        return torch.cat([one._next_batch(one.phase, torch.Generator().manual_seed(1))[0] for one in trainers])

    shown = shown_by(world)
    mirrored = (shown == expected.flip(3)).all(dim=(1, 2, 3))
    differs = (shown == expected).all(dim=(1, 2, 3)) ^ mirrored  # a disc in the middle is its own mirror image
    assert differs.sum() > 40
    assert 12 < mirrored.sum() < 36
    torch.testing.assert_close(shown_by(1), shown, rtol=0, atol=0)


def test_the_variety_of_samples_is_a_share_of_the_reals(data):
    """At the resolution of the phase: of the grid, which is drawn enlarged, and of reals averaged down to it."""

    def spread(images, resolution):
        size = images.shape[1] // resolution
        cells = images.astype(float).reshape(len(images), resolution, size, resolution, size, 3).mean((2, 4))
        return cells.std(0, ddof=1).mean()

    for tick in finish(Trainer(TINY, data, CPU)):
        resolution = tick.record["resolution"]
        reals = data[batch_indices(seed=TINY.seed, nimg=0, batch=64, count=len(data))]
        expected = spread(tick.grid, resolution) / spread(reals, resolution)
        assert tick.record["sample_std"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("world", [1, 2])
def test_labels_are_those_of_the_images_beside_them(world):
    """Of the whole batch, in the order of the workers' slices; each image is as bright as its label."""
    labels = np.arange(50, dtype=np.uint16) % 5
    grey = 40 * labels.astype(np.uint8)
    data = ImageSet([np.repeat(grey, 16 * 16 * 3).reshape(50, 16, 16, 3)], "digest")
    data.labels, data.label_names = labels, tuple("abcde")
    config = replace(TINY, arch="stylegan2", labels=True, batch=16)
    trainers = [Trainer(config, data, CPU, rank=rank, world=world) for rank in range(world)]
    parts = [trainer._next_batch(trainer.phase, torch.Generator()) for trainer in trainers]
    shown = torch.cat([images for images, _ in parts]).mean(dim=(1, 2, 3))
    for _, found in parts:
        torch.testing.assert_close((shown + 1) * 127.5 / 40, found.float())
    assert len(set(parts[0][1].tolist())) > 2


def test_a_raised_target_goes_on_and_a_reached_one_does_nothing(data):
    trainer = Trainer(TINY, data, CPU)
    ticks = finish(trainer)
    assert [tick.done for tick in ticks] == [False] * 9 + [True]
    assert finish(trainer) == []
    raised = Trainer(replace(TINY, total_kimg=0.2), data, CPU)
    raised.restore(trainer.state())
    assert finish(raised)[-1].record["nimg"] == 200
    assert torch.equal(
        Trainer(replace(TINY, total_kimg=0.2), data, CPU).players.generator.blocks["4"].constant,
        Trainer(TINY, data, CPU).players.generator.blocks["4"].constant,
    )


def test_a_change_of_level_resets_the_optimisers(data):
    trainer = Trainer(TINY, data, CPU)
    while trainer.phase.resolution == 8:
        trainer.step()
    for optimiser in trainer.players.optimisers().values():
        assert steps(optimiser) == {trainer.nimg / trainer.config.batch}
    trainer.step()
    for optimiser in trainer.players.optimisers().values():
        assert steps(optimiser) == {1}


def steps(optimiser):
    return {entry["step"].item() for entry in optimiser.state_dict()["state"].values()}


def test_training_moves_the_generator_towards_the_data(data):
    """The mean image of samples comes closer to the mean image of the reals than the untrained generator's."""
    growth = replace(TINY.stylegan, stable_kimg=0.5, fade_kimg=0.5)
    config = replace(TINY, total_kimg=3, stylegan=growth, channel_base=256, channel_max=16)
    trainer = Trainer(config, data, CPU)

    def distance():
        reals = data[np.arange(50)].mean(0)
        return np.abs(trainer.sample_grid(replace_phase(trainer)).mean(0) - reals).mean()

    def replace_phase(trainer):
        return replace(trainer.phase, resolution=16, alpha=1.0)

    before = distance()
    list(trainer.run(tick_kimg=2))
    assert distance() < before / 2


@pytest.mark.parametrize("arch", ARCHS)
def test_sample_grids_of_rgba_have_no_colour_above_its_alpha(arch):
    random = np.random.default_rng(0)
    alpha = random.integers(0, 256, (50, 16, 16, 1))
    images = np.concatenate([random.integers(0, alpha + 1, (50, 16, 16, 3)), alpha], axis=3).astype(np.uint8)
    (tick, *_) = finish(Trainer(replace(TINY, arch=arch), ImageSet([images], "digest"), CPU))
    assert tick.grid.shape == (32, 16, 16, 4)
    assert (tick.grid[..., :3] <= tick.grid[..., 3:]).all()
    assert tick.grid[..., :3].std() > 1


def test_a_loss_that_is_not_finite_ends_the_run(data):
    trainer = Trainer(TINY, data, CPU)
    trainer.players.discriminator.blocks["4"].logit.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at 0\.0 kimg"):
        finish(trainer)


def test_the_average_is_described_as_far_as_it_has_grown(data):
    trainer = Trainer(TINY, data, CPU)
    assert trainer.average_config()["growth"] == [8, 1.0]
    finish(trainer)
    assert "growth" not in trainer.average_config()


def test_an_average_with_batch_norm_draws_by_statistics_of_its_own(data):
    """At a tick: as if it normalised by the many latents that they were taken from; the model's would not do."""
    config = replace(TINY, arch="dcgan", learning_rate=0.01, ema_kimg=0.05)
    trainer = Trainer(config, data, CPU)
    finish(trainer)
    average, z = trainer.players.average, trainer._settling_latents()
    with torch.no_grad():
        settled = average.synthesis(z[:, None], [])
        by_batch = average.train().synthesis(z[:, None], [])
        for name, buffer in trainer.players.generator.named_buffers():
            average.get_buffer(name).copy_(buffer)
        by_model = average.eval().synthesis(z[:, None], [])
    torch.testing.assert_close(settled, by_batch, atol=2e-3, rtol=1e-3)
    assert (by_model - by_batch).abs().mean() > 0.02
