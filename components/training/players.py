"""Generator and discriminator, and one step of their game on a global batch.

Legend: N images of the global batch, B of this worker's slice of it, D size of w, L layers.

Everything random is drawn for the global batch from the generator that the caller gives, and then sliced: a step is the
same on any number of workers up to rounding. Both networks learn from the same fakes and the same logits, as they stand
when the step begins: one pass through G and one through D on fakes serve both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.config import Train
from components.models import Phase, build_discriminator, build_generator, build_recipe
from components.models.second_order import input_gradients_only
from components.training.augment import adapt, augment, draw
from components.training.ema import ema_beta, update_average
from components.training.losses import LOSSES, gradient_penalty, path_lengths
from components.training.waiting import Waiting

STATISTICS = ("loss_g", "loss_d", "penalty", "sign_real", "sign_fake", "path_length")
ADAPT_EVERY = 4  # steps; Karras et al. 2020, section 3.1
PATH_DECAY = 0.01  # of the mean path length, a penalty
PATH_SHRINK = 2  # part of the batch that the path-length penalty takes
STEP_STATE = ("augment_p", "path_mean", "signs", "sums", "counts")  # attributes of Players, in a checkpoint


class Players:
    """Networks, optimisers and what else a step changes; the same on every worker after every step.

    Attributes:
        generator, discriminator: what is trained.
        average: the EMA generator.
        augment_p: 0-d, the probability of an augmentation.
        path_mean: 0-d, the running mean of path lengths.
        signs: [2], D's mean signs on reals and their number, since augment_p was last adapted.
        waiting: for the other workers, since it was last read.
        sums, counts: [STATISTICS], since they were last read; of means over all workers.
    """

    def __init__(
        self, config: Train, model: dict[str, Any], seed: int, device: torch.device, *, rank: int, world: int
    ) -> None:
        self.config, self.device, self.rank, self.world = config, device, rank, world
        self.recipe = build_recipe(config, model["resolution"])
        self.waiting = Waiting(device)
        self.loss = LOSSES[self.recipe.loss]
        dtype = getattr(torch, config.dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, discriminator = build_generator(model, dtype), build_discriminator(model, dtype)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.augment_p = torch.tensor(config.augment.p, device=device)
        self.path_mean = torch.zeros((), device=device)
        self.signs = torch.zeros(2, device=device)
        self.sums = torch.zeros(len(STATISTICS), dtype=torch.float64, device=device)
        self.counts = torch.zeros_like(self.sums)
        self.reset_optimisers()

    def reset_optimisers(self) -> None:
        """New Adam states, as at the start and at each change of resolution (Karras et al. 2017, appendix A)."""
        self.adam_g, self.adam_d = (
            torch.optim.Adam(network.parameters(), eps=1e-8, fused=True)
            for network in (self.generator, self.discriminator)
        )

    def step(
        self, phase: Phase, number: int, reals: Tensor, random: torch.Generator, labels: Tensor | None = None
    ) -> None:
        """One update of D and one of G, with the lazy penalties that are due; then the averages.

        Args:
            phase: of this step.
            number: of steps before this one with the same batch; what is lazy goes by it.
            reals: [B, C, H, W] in [-1, 1] at the phase's resolution, faded as fakes are.
            random: on the device, seeded alike on every worker.
            labels: [N], of the global batch, where images have labels; fakes get those of the reals beside them.
        """
        self._set_rate(self.adam_d, phase, self.recipe.penalty_every)
        self._set_rate(self.adam_g, phase, self.recipe.path_length_every)
        fakes, w, _ = self._draw_fakes(phase, phase.batch, random, labels)
        own = self._labels(labels, phase.batch)
        for_fakes, seen = self._judge_both(phase, reals, fakes.detach(), random, own)
        fakes.backward(for_fakes)  # type: ignore[no-untyped-call]
        means = self._descend(seen | {"w": w.mean(0)}, self.adam_d, self.adam_g)
        self.signs += torch.stack([means["sign_real"], torch.ones_like(self.signs[1])])
        self.generator.w_avg.lerp_(means["w"], 1 - self.recipe.w_avg_beta)
        if self.recipe.penalty_every > 1 and number % self.recipe.penalty_every == 0:
            self._penalise_discriminator(phase, reals, fakes.detach(), random, own)
        if self.recipe.path_length_every and number % self.recipe.path_length_every == 0:
            self._shorten_paths(phase, random, labels)
        if self.config.augment.kind == "ada" and self.config.augment.target and number % ADAPT_EVERY == ADAPT_EVERY - 1:
            self._adapt(phase)
        update_average(self.average, self.generator, ema_beta(phase.batch, phase.ema_kimg))

    # ── updates ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_both(
        self, phase: Phase, reals: Tensor, fakes: Tensor, random: torch.Generator, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The backward pass of D's loss; returns the gradient of G's loss in the fakes, and what was seen."""
        images = self._judged(phase, reals, fakes.requires_grad_(), random)
        penalised = self.recipe.penalties if self.recipe.penalty_every == 1 else ()
        for name in penalised:
            images[name].requires_grad_()
        logits = {name: self._judge(phase, image, random, labels) for name, image in images.items()}
        real, fake = logits["real"], logits["fake"]
        loss_g, loss = self.loss.generator(real.detach(), fake), self.loss.discriminator(real, fake)
        with input_gradients_only():
            (for_fakes,) = torch.autograd.grad(loss_g, fakes, retain_graph=True)
        seen = {"loss_g": loss_g, "loss_d": loss, "sign_real": real.sign().mean(), "sign_fake": fake.sign().mean()}
        if penalised:
            seen["penalty"] = self._penalty(images, logits)
            loss = loss + phase.gamma / 2 * seen["penalty"]
        loss.backward()  # type: ignore[no-untyped-call]
        return for_fakes, seen

    def _penalise_discriminator(
        self, phase: Phase, reals: Tensor, fakes: Tensor, random: torch.Generator, labels: Tensor | None
    ) -> None:
        """The gradient penalty in a step of its own, as many times as strong as it is rarer."""
        images = self._judged(phase, reals, fakes, random)
        penalised = {name: images[name].requires_grad_() for name in self.recipe.penalties}
        logits = {name: self._judge(phase, image, random, labels) for name, image in penalised.items()}
        penalty = self._penalty(images, logits)
        (self.recipe.penalty_every * phase.gamma / 2 * penalty).backward()  # type: ignore[no-untyped-call]
        self._descend({"penalty": penalty}, self.adam_d)

    def _penalty(self, images: dict[str, Tensor], logits: dict[str, Tensor]) -> Tensor:
        """The sum of the recipe's penalties, of gradients in the images before augmentation."""
        norm, names = self.recipe.penalty_norm, self.recipe.penalties
        return torch.stack([gradient_penalty(images[name], logits[name], norm) for name in names]).sum()

    def _shorten_paths(self, phase: Phase, random: torch.Generator, labels: Tensor | None = None) -> None:
        """The path-length penalty, (‖Jᵀy‖ - a)² with a the running mean of ‖Jᵀy‖; Karras et al. 2019, equation 4."""
        count = phase.batch // PATH_SHRINK
        images, _, ws = self._draw_fakes(phase, count, random, labels)
        y = self._slice(torch.randn(count, *images.shape[1:], device=self.device, generator=random))
        lengths = path_lengths(images, ws, y)
        mean = lengths.detach().mean()
        if self.world > 1:
            self.waiting.all_reduce(mean)
        self.path_mean.lerp_(mean / self.world, PATH_DECAY)
        penalty = (lengths - self.path_mean).square().mean()
        weight = self.recipe.path_length_every * self.recipe.path_length_weight
        (weight * penalty).backward()  # type: ignore[no-untyped-call]
        self._descend({"path_length": lengths.mean()}, self.adam_g)

    def _adapt(self, phase: Phase) -> None:
        config = self.config.augment
        self.augment_p = adapt(
            self.augment_p,
            self.signs[0] / self.signs[1],
            target=config.target,
            images=ADAPT_EVERY * phase.batch,
            ada_kimg=config.ada_kimg,
            max_p=config.max_p,
        )
        self.signs.zero_()

    def _descend(self, seen: dict[str, Tensor], *optimisers: torch.optim.Optimizer) -> dict[str, Tensor]:
        """One all-reduce of all gradients as one vector, and one step of each optimiser, which uses them up.

        Returns:
            The means over workers of what was seen, which ride along; those among STATISTICS are noted.
        """
        seen = {name: value.detach() for name, value in seen.items()}
        if self.world > 1:
            groups = [group for optimiser in optimisers for group in optimiser.param_groups]
            grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
            parts = [*grads, *seen.values()]
            flat = torch.cat([part.reshape(-1) for part in parts])
            self.waiting.all_reduce(flat)
            means = torch.split(flat / self.world, [part.numel() for part in parts])
            for grad, mean in zip(grads, means, strict=False):
                grad.copy_(mean.view_as(grad))
            seen = {name: mean.view_as(seen[name]) for name, mean in zip(seen, means[len(grads) :], strict=True)}
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self._note({name: value for name, value in seen.items() if name in STATISTICS})
        return seen

    def _set_rate(self, optimiser: torch.optim.Optimizer, phase: Phase, every: int) -> None:
        """Adam's rate and decay; with a lazy penalty of its own step: both for (every + 1) / every times the steps.

        Reference: Karras et al. 2019, appendix B, "Lazy regularization".
        """
        share = every / (every + 1) if every > 1 else 1.0
        for group in optimiser.param_groups:
            group["lr"] = phase.learning_rate * share
            group["betas"] = (phase.beta1**share, phase.beta2**share)

    # ── images ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _slice(self, tensor: Tensor) -> Tensor:
        """This worker's consecutive part of something drawn for the global batch."""
        return tensor.chunk(self.world)[self.rank]

    def _labels(self, labels: Tensor | None, count: int) -> Tensor | None:
        """This worker's part of the first `count` labels."""
        return None if labels is None else self._slice(labels[:count])

    def _judged(self, phase: Phase, reals: Tensor, fakes: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Reals, fakes and, if they are penalised, points on the lines between them (Gulrajani et al. 2017)."""
        images = {"real": reals, "fake": fakes}
        if "mixed" in self.recipe.penalties:
            t = self._slice(torch.rand(phase.batch, 1, 1, 1, device=self.device, generator=random))
            images["mixed"] = torch.lerp(reals.detach(), fakes.detach(), t)
        return images

    def _judge(self, phase: Phase, images: Tensor, random: torch.Generator, labels: Tensor | None) -> Tensor:
        """Logits [B] of augmented images."""
        if self.config.augment.kind != "none":
            draws = self._slice(draw(phase.batch, random, self.device))
            images = augment(self.config.augment.kind, images, draws, self.augment_p * phase.augment)
        logits: Tensor = self.discriminator(images, labels=labels, alpha=phase.alpha)
        return logits

    def _draw_fakes(
        self, phase: Phase, count: int, random: torch.Generator, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """This worker's part of `count` images of the generator, their first w [B, D], and all of them [B, L, D]."""
        generator, mixing = self.generator, self.recipe.style_mixing
        z = torch.randn(2 if mixing else 1, count, generator.latent_dim, device=self.device, generator=random)
        shapes = [shape for shape in generator.noise_shapes() if max(shape) <= phase.resolution]
        noise = [self._slice(torch.randn(count, 1, *shape, device=self.device, generator=random)) for shape in shapes]
        own_labels = self._labels(labels, count)
        w = generator.to_w(self._slice(z[0]), own_labels)
        ws = w[:, None].expand(-1, generator.num_layers, -1)
        if mixing:
            used = generator.num_layers - 2 * int(math.log2(generator.resolution // phase.resolution))
            crossover = torch.randint(1, used, (count,), device=self.device, generator=random)
            mixed = torch.rand(count, device=self.device, generator=random) < mixing
            crossover = self._slice(torch.where(mixed, crossover, generator.num_layers))
            own = torch.arange(generator.num_layers, device=self.device) < crossover[:, None]
            ws = torch.where(own[..., None], ws, generator.to_w(self._slice(z[1]), own_labels)[:, None])
        return generator.synthesis(ws, noise, resolution=phase.resolution, alpha=phase.alpha), w, ws

    # ── statistics and state ──────────────────────────────────────────────────────────────────────────────────────

    def _note(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[STATISTICS.index(name)] += value
            self.counts[STATISTICS.index(name)] += 1

    def augmentation(self, phase: Phase) -> float:
        """The probability of each of ADA's transforms; 0 for other kinds."""
        return float(self.augment_p) * phase.augment if self.config.augment.kind == "ada" else 0.0

    def read_statistics(self) -> dict[str, float]:
        """Means since the last reading of what was noted at all."""
        means, counts = (self.sums / self.counts).tolist(), self.counts.tolist()
        self.sums.zero_()
        self.counts.zero_()
        return {name: mean for name, mean, count in zip(STATISTICS, means, counts, strict=True) if count}

    def networks(self) -> dict[str, nn.Module]:
        """By the names that a checkpoint has them under."""
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """By the names that a checkpoint has them under."""
        return {"adam_g": self.adam_g, "adam_d": self.adam_d}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, beside its position and the data."""
        found = {
            f"{name}/{key}": value
            for name, network in self.networks().items()
            for key, value in network.state_dict().items()
        }
        for name, adam in self.optimisers().items():
            for index, entries in adam.state_dict()["state"].items():
                found |= {f"{name}/{index}/{key}": value for key, value in entries.items()}
        return found | {f"step/{name}": getattr(self, name) for name in STEP_STATE}

    @torch.no_grad()
    def start_from(
        self, config: dict[str, Any], generator: Mapping[str, Tensor], discriminator: Mapping[str, Tensor]
    ) -> None:
        """Takes over another run's model, before the first step: all weights whose names and shapes fit.

        Args:
            config: of the generator, whose resolution may be smaller.
            generator: its averaged weights; they are both the generator's and the average's here.
            discriminator: its discriminator's weights.
        """
        for network, weights in ((self.generator, generator), (self.discriminator, discriminator)):
            own = network.state_dict()
            fitting = {
                name: weight for name, weight in weights.items() if name in own and own[name].shape == weight.shape
            }
            network.load_state_dict(own | fitting)
        self.generator.begin_at(config["resolution"])
        self.average.load_state_dict(self.generator.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up what tensors() gave."""
        for name, network in self.networks().items():
            network.load_state_dict(_under(tensors, name))
        self.reset_optimisers()
        for name, adam in self.optimisers().items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, name).items():
                index, entry = key.split("/")
                layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
                entries.setdefault(int(index), {})[entry] = value.contiguous(memory_format=layout)
            adam.load_state_dict({**adam.state_dict(), "state": entries})
        for name in STEP_STATE:
            getattr(self, name).copy_(tensors[f"step/{name}"])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix + "/"): value for key, value in tensors.items() if key.startswith(prefix + "/")}
