"""A step of the game: what is lazy comes as often and as strongly as published, and path lengths are those of J."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from components.config import load_params
from components.training.augment import augment, draw
from components.training.losses import gradient_penalty, path_lengths
from components.training.players import Players

PARAMS = load_params("params.yaml").train
TINY = replace(PARAMS, arch="stylegan2", batch=8, channel_base=64, channel_max=8, latent_dim=8, gamma=3.0)
MODEL = {
    **{"format": 1, "arch": "stylegan2", "resolution": 16, "channels": 3},
    **{"latent_dim": 8, "channel_base": 64, "channel_max": 8},
}


def make(config=TINY):
    return Players(config, MODEL, 0, torch.device("cpu"), rank=0, world=1)


@pytest.fixture
def reals():
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def take_step(players, number, reals):
    players.step(players.recipe.phase(8 * number), number, reals.clone(), torch.Generator().manual_seed(number))


def gradients_of(optimiser, monkeypatch):
    """What the optimiser is given in each of its steps, which it does not take."""
    given = []

    def look():
        given.append([None if p.grad is None else p.grad.clone() for p in optimiser.param_groups[0]["params"]])

    monkeypatch.setattr(optimiser, "step", look)
    return given


def test_penalties_have_steps_of_their_own_every_16_and_every_4(reals, monkeypatch):
    players = make()
    given_d, given_g = (gradients_of(adam, monkeypatch) for adam in (players.adam_d, players.adam_g))
    taken = []
    for number in range(33):
        take_step(players, number, reals)
        taken.append((len(given_d), len(given_g)))
    assert taken[-1] == (33 + 3, 33 + 9)
    assert [later[0] - before[0] for before, later in zip([(0, 0), *taken], taken, strict=False)] == [
        2 if number % 16 == 0 else 1 for number in range(33)
    ]


def test_a_lazy_penalty_is_as_many_times_as_strong(reals, monkeypatch):
    players = make()
    given = gradients_of(players.adam_d, monkeypatch)
    take_step(players, 0, reals)
    images = reals.clone().requires_grad_()
    penalty = gradient_penalty(images, players.discriminator(images))
    parameters = list(players.discriminator.parameters())
    expected = torch.autograd.grad(16 * 3.0 / 2 * penalty, parameters, allow_unused=True)
    for gradient, wanted in zip(given[1], expected, strict=True):
        assert (gradient is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_the_optimisers_of_lazy_penalties_take_smaller_steps(reals):
    """lr · k / (k + 1) and β₂^(k / (k + 1)): as far in k + 1 steps as in k; Karras et al. 2019, appendix B."""
    players = make()
    take_step(players, 0, reals)
    for adam, every in ((players.adam_d, 16), (players.adam_g, 4)):
        group = adam.param_groups[0]
        assert group["lr"] == pytest.approx(TINY.learning_rate * every / (every + 1))
        assert group["betas"] == (0.0, pytest.approx(0.99 ** (every / (every + 1))))
    without = make(replace(TINY, stylegan2=replace(TINY.stylegan2, path_length_weight=0.0)))
    take_step(without, 0, reals)
    assert without.adam_g.param_groups[0]["lr"] == pytest.approx(TINY.learning_rate)
    assert "path_length" not in without.read_statistics()


def test_the_path_penalty_pulls_lengths_to_their_mean(reals):
    """Trained by it alone, with a mean of three times what they are, lengths grow; with a third of it, they shrink."""
    for factor in (3.0, 1 / 3):
        players = make(replace(TINY, learning_rate=1e-2))
        phase, means = players.recipe.phase(0), []
        players._set_rate(players.adam_g, phase, 4)
        for number in range(40):
            random = torch.Generator().manual_seed(number)
            images, _, ws = players._draw_fakes(phase, 64, random)
            means.append(path_lengths(images, ws, torch.randn(images.shape, generator=random)).detach().mean())
            if number == 0:
                players.path_mean.copy_(factor * means[0])
            players._shorten_paths(phase, random)
        assert abs(sum(means[-10:]) / 10 / means[0] - factor) < 0.6 * abs(1 - factor)


def test_the_average_follows_with_its_ramp(reals):
    """At first the half-life is a twentieth of the images shown, later ema_kimg (Karras et al. 2020)."""
    recipe = make(replace(TINY, ema_kimg=0.5)).recipe
    assert recipe.phase(0).ema_kimg == 0
    assert recipe.phase(2000).ema_kimg == pytest.approx(0.1)
    assert recipe.phase(1_000_000).ema_kimg == 0.5


def test_ada_steers_p_every_four_steps(reals):
    augmented = replace(TINY.augment, kind="ada", target=0.6, p=0.1, max_p=0.8, ada_kimg=0.5)
    players = make(replace(TINY, augment=augmented))
    players.discriminator.head.logit.bias.data.fill_(1e3)  # D calls everything real, for a while
    seen = []
    for number in range(8):
        take_step(players, number, reals)
        seen.append(players.augment_p.item())
    assert seen[:3] == [pytest.approx(0.1)] * 3
    assert seen[3:7] == [pytest.approx(0.1 + 4 * 8 / 500)] * 4
    assert seen[7] == pytest.approx(0.1 + 2 * 4 * 8 / 500)


def test_a_fixed_p_stays(reals):
    augmented = replace(TINY.augment, kind="ada", target=0.0, p=0.25)
    players = make(replace(TINY, augment=augmented))
    for number in range(5):
        take_step(players, number, reals)
    assert players.augment_p.item() == 0.25


def test_statistics_are_means_since_they_were_read(reals):
    players = make()
    take_step(players, 0, reals)
    first = players.read_statistics()
    assert set(first) == {"loss_g", "loss_d", "penalty", "sign_real", "sign_fake", "path_length"}
    assert players.read_statistics() == {}
    take_step(players, 1, reals)
    assert set(players.read_statistics()) == {"loss_g", "loss_d", "sign_real", "sign_fake"}


def plainly(players, phase, reals, number):
    """What D and G descend by in a step without lazy penalties, written out: losses, then their gradients."""
    random = torch.Generator().manual_seed(number)
    fakes, w, _ = players._draw_fakes(phase, len(reals), random)
    images = {"real": reals.clone().requires_grad_(), "fake": fakes}
    if players.recipe.loss == "wasserstein":
        t = torch.rand(len(reals), 1, 1, 1, generator=random)
        images["mixed"] = ((1 - t) * reals + t * fakes.detach()).requires_grad_()
    real, fake, *mixed = (
        players.discriminator(augment("ada", image, draw(len(reals), random, "cpu"), players.augment_p * phase.augment))
        for image in images.values()
    )
    if mixed:
        (slope,) = torch.autograd.grad(mixed[0].sum(), images["mixed"], create_graph=True)
        penalty = (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
        loss_g, loss_d = -fake.mean(), fake.mean() - real.mean() + 0.001 * real.square().mean()
        loss_d = loss_d + players.config.gamma * penalty  # λ, not half of it
    elif players.recipe.loss == "relativistic":
        loss_g, loss_d = F.softplus(real - fake).mean(), F.softplus(fake - real).mean()
        for image, logits in ((images["real"], real), (images["fake"], fake)):
            (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
            loss_d = loss_d + phase.gamma / 2 * slope.square().sum((1, 2, 3)).mean()
    else:
        loss_g, loss_d = F.softplus(-fake).mean(), F.softplus(-real).mean() + F.softplus(fake).mean()
    return w, [
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
        for loss, network in ((loss_d, players.discriminator), (loss_g, players.generator))
    ]


@pytest.mark.parametrize("arch", ["dcgan", "progan", "stylegan2", "r3gan"])
def test_a_step_descends_by_the_losses_of_the_paper(arch, reals, monkeypatch):
    torch.manual_seed(0)
    config = replace(
        TINY,
        arch=arch,
        augment=replace(TINY.augment, kind="ada", target=0.0, p=0.6),
        progan=replace(TINY.progan, start_resolution=16),
        r3gan=replace(TINY.r3gan, decay_kimg=0.016, penalty_every=1),
    )
    players = Players(config, MODEL | {"arch": arch}, 0, torch.device("cpu"), rank=0, world=1)
    for network in (players.generator, players.discriminator):
        for parameter in network.parameters():  # r3gan's blocks begin at zero
            parameter.data += 0.1 * torch.randn_like(parameter)
    given = [gradients_of(adam, monkeypatch) for adam in (players.adam_d, players.adam_g)]
    w, expected = plainly(players, players.recipe.phase(8), reals, number=1)
    take_step(players, 1, reals)
    for (step,), wanted in zip(given, expected, strict=True):
        assert any(gradient is not None and gradient.abs().max() > 1e-4 for gradient in wanted)
        for gradient, other in zip(step, wanted, strict=True):
            if other is not None:
                torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)
    decay = players.recipe.w_avg_beta
    torch.testing.assert_close(players.generator.w_avg, (1 - decay) * w.detach().mean(0))


def test_the_path_penalty_descends_by_its_formula(monkeypatch):
    players = make()
    players.path_mean.fill_(0.7)
    given, phase = gradients_of(players.adam_g, monkeypatch), players.recipe.phase(0)
    random = torch.Generator().manual_seed(5)
    images, _, ws = players._draw_fakes(phase, 4, random)
    y = torch.randn(images.shape, generator=random) / 16
    (slope,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = 0.99 * 0.7 + 0.01 * lengths.detach().mean()
    penalty = 4 * 2.0 * (lengths - mean).square().mean()
    expected = torch.autograd.grad(penalty, list(players.generator.parameters()), allow_unused=True)
    players._shorten_paths(phase, torch.Generator().manual_seed(5))
    torch.testing.assert_close(players.path_mean, mean)
    for gradient, wanted in zip(given[0], expected, strict=True):
        if wanted is not None:
            torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_the_average_moves_by_its_half_life(reals):
    players = make()
    before = [parameter.clone() for parameter in players.average.parameters()]
    take_step(players, 100, reals)
    beta = 0.5 ** (8 / (0.05 * 800))
    for average, old, new in zip(players.average.parameters(), before, players.generator.parameters(), strict=True):
        torch.testing.assert_close(average.data, beta * old + (1 - beta) * new.data)


def test_dcgan_has_momentum_no_penalty_and_without_an_average_draws_by_its_last_weights(reals):
    config = replace(TINY, arch="dcgan", ema_kimg=0.0)
    players = Players(config, MODEL | {"arch": "dcgan"}, 0, torch.device("cpu"), rank=0, world=1)
    for number in range(3):
        take_step(players, number, reals)
    assert {tuple(adam.param_groups[0]["betas"]) for adam in players.optimisers().values()} == {(0.5, 0.999)}
    assert "penalty" not in players.read_statistics()
    for name, tensor in players.generator.state_dict().items():
        assert torch.equal(players.average.state_dict()[name], tensor), name
    assert players.generator.norms["4"].running_var.ne(1).all()
    z, average = torch.randn(4, 8), players.average
    together, alone = (average.synthesis(average.truncate(x, 1.0), []) for x in (z, z[:1]))
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-6)  # running statistics, not the batch's


@pytest.mark.parametrize(("says", "start", "end"), [(1e3, 0.79, 0.8), (-1e3, 0.01, 0.0)])
def test_p_stays_between_0_and_its_cap(reals, says, start, end):
    augmented = replace(TINY.augment, kind="ada", target=0.6, p=start, max_p=0.8, ada_kimg=0.5)
    players = make(replace(TINY, augment=augmented))
    players.discriminator.head.logit.bias.data.fill_(says)
    for number in range(4):
        take_step(players, number, reals)
    assert players.augment_p.item() == pytest.approx(end)


def test_ada_goes_by_what_was_seen_since_it_last_decided(reals):
    augmented = replace(TINY.augment, kind="ada", target=0.6, p=0.4, ada_kimg=0.5)
    players = make(replace(TINY, augment=augmented))
    seen = []
    for says in (1e3, -1e3, -1e3):
        players.discriminator.head.logit.bias.data.fill_(says)
        for number in range(4):
            take_step(players, number, reals)
        seen.append(players.augment_p.item())
    assert seen == pytest.approx([0.464, 0.4, 0.336])


def test_styles_are_mixed_from_a_random_layer_on():
    players = make()
    _, w, ws = players._draw_fakes(players.recipe.phase(0), 2000, torch.Generator().manual_seed(0))
    own = (ws == w[:, None]).all(2)
    crossovers = own.sum(1)
    assert torch.equal(own, torch.arange(players.generator.num_layers) < crossovers[:, None])
    mixed = crossovers < players.generator.num_layers
    assert mixed.float().mean().item() == pytest.approx(0.9, abs=0.03)
    counts = torch.bincount(crossovers[mixed], minlength=players.generator.num_layers)
    assert counts[0] == 0
    assert counts[1:].min() > 0.7 * counts[1:].float().mean()
