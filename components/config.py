"""The run's parameters: one frozen dataclass per section of params.yaml, read and checked by load_params()."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

ARCHS = ("stylegan", "stylegan2", "r3gan")  # each a module of components/models and a section of train
AUGMENTS = ("none", "ada", "diffaugment")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16")
EXTRACTORS = ("random_conv", "inception")  # any other name is that of a TorchScript file
METRICS = ("frechet", "frechet_infinity", "kernel")  # distances: lower is better
MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024
_COLOUR = "#[0-9a-fA-F]{6}"


class InputError(ValueError):
    """What a person gave is wrong: one line that says what, where and what is allowed. Entry points exit with 2."""


def _check(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise InputError(f"{key} is {value!r}; allowed: {allowed}")


def _choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, key, value, ", ".join(allowed))


def _is_resolution(value: int, low: int = MIN_RESOLUTION) -> bool:
    return low <= value <= MAX_RESOLUTION and math.log2(value).is_integer()


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Where the images come from."""

    source: str  # path of a folder, an archive, or a descriptor in sources/

    def __post_init__(self) -> None:
        _check(bool(self.source), "ingest.source", self.source, "a path")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How originals become training arrays."""

    resolution: int  # pixels, height and width
    channels: int  # 3: RGB over the background; 4: premultiplied RGBA
    background: str  # "#rrggbb", several of them (a palette), or "border"
    frames: str  # of an animation
    trim: bool  # cut off what is transparent all around
    margin: float  # kept free on each side, a share of the resolution
    shape: str  # of what is not square
    pixel_art: bool  # scale it by whole numbers, where it is detected
    linear_light: bool  # resample and composite in linear light instead of sRGB values
    near_duplicates: str  # ignore, report or drop
    mirrors: str
    recolours: str
    labels: bool  # the first folder of a name is its label
    holdout: float  # share of images, (0, 0.5]
    max_pixels: int  # of one picture

    def __post_init__(self) -> None:
        _check(
            _is_resolution(self.resolution),
            "preprocess.resolution",
            self.resolution,
            f"a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}",
        )
        _check(self.channels in (3, 4), "preprocess.channels", self.channels, "3, 4")
        _check(
            re.fullmatch(rf"border|{_COLOUR}( {_COLOUR})*", self.background) is not None,
            "preprocess.background",
            self.background,
            'in quotes: a colour as "#rrggbb", several with spaces between, or "border"',
        )
        _check(
            self.margin >= 0 and self.inner >= 4,
            "preprocess.margin",
            self.margin,
            f"at least 0, and 4 of {self.resolution} pixels left between the margins",
        )
        _check(0 < self.holdout <= 0.5, "preprocess.holdout", self.holdout, "above 0, at most 0.5")
        _check(self.max_pixels >= 1, "preprocess.max_pixels", self.max_pixels, "at least 1")
        _choice("preprocess.frames", self.frames, ("first", "all"))
        _choice("preprocess.shape", self.shape, ("pad", "crop"))
        for name in ("near_duplicates", "mirrors", "recolours"):
            _choice(f"preprocess.{name}", getattr(self, name), ("ignore", "report", "drop"))

    @property
    def inner(self) -> int:
        """Pixels between the margins."""
        return self.resolution - 2 * round(self.margin * self.resolution)

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """The background's colours, 0..255; None for the picture's own border colour."""
        if self.background == "border":
            return None
        return [
            (colour[0], colour[1], colour[2]) for colour in map(bytes.fromhex, self.background.replace("#", "").split())
        ]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What the discriminator sees of reals and fakes alike."""

    kind: str  # of AUGMENTS
    target: float  # of ada: the mean sign of D on reals that p is steered to; 0 keeps p as it is
    p: float  # of ada: probability of each transform, at first
    max_p: float  # p never passes it
    ada_kimg: float  # in which p can move by 1

    def __post_init__(self) -> None:
        _choice("train.augment.kind", self.kind, AUGMENTS)
        _check(0 <= self.target < 1, "train.augment.target", self.target, "0 (p stays) or more, below 1")
        _check(0 <= self.max_p <= 1, "train.augment.max_p", self.max_p, "0 to 1")
        _check(0 <= self.p <= self.max_p, "train.augment.p", self.p, f"0 to train.augment.max_p, {self.max_p}")
        _check(self.ada_kimg > 0, "train.augment.ada_kimg", self.ada_kimg, "above 0")


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Arch stylegan: progressive growing."""

    start_resolution: int
    stable_kimg: float  # at each resolution, after its fade
    fade_kimg: float
    style_mixing: float  # probability

    def __post_init__(self) -> None:
        _check(
            _is_resolution(self.start_resolution, low=4),
            "train.stylegan.start_resolution",
            self.start_resolution,
            f"a power of two from 4 to {MAX_RESOLUTION}",
        )
        for name in ("stable_kimg", "fade_kimg"):
            _check(getattr(self, name) > 0, f"train.stylegan.{name}", getattr(self, name), "above 0")
        _check(0 <= self.style_mixing <= 1, "train.stylegan.style_mixing", self.style_mixing, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Stylegan2:
    """Arch stylegan2."""

    style_mixing: float  # probability
    path_length_weight: float  # 0 for no path-length penalty

    def __post_init__(self) -> None:
        _check(0 <= self.style_mixing <= 1, "train.stylegan2.style_mixing", self.style_mixing, "0 to 1")
        weight = self.path_length_weight
        _check(weight >= 0, "train.stylegan2.path_length_weight", weight, "at least 0")


@dataclass(frozen=True, kw_only=True)
class R3gan:
    """Arch r3gan: where its schedules end, and how often its penalties are taken."""

    decay_kimg: float  # until the schedules end
    final_learning_rate: float
    final_gamma: float
    penalty_every: int  # steps

    def __post_init__(self) -> None:
        for name in ("decay_kimg", "final_learning_rate"):
            _check(getattr(self, name) > 0, f"train.r3gan.{name}", getattr(self, name), "above 0")
        _check(self.final_gamma >= 0, "train.r3gan.final_gamma", self.final_gamma, "at least 0")
        _check(self.penalty_every >= 1, "train.r3gan.penalty_every", self.penalty_every, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Train:
    """What decides the weights. All of it but total_kimg and the sections of other archs is part of the run key."""

    arch: str  # of ARCHS
    init_from: str  # a generator to start from: models:/NAME/VERSION or a folder; "" for none
    batch: int  # images a step at the final resolution, over all workers
    total_kimg: float  # target, thousands of images shown
    seed: int
    channel_base: int
    channel_max: int
    latent_dim: int  # of z, and of w where there is one
    learning_rate: float
    gamma: float  # weight of the gradient penalties
    ema_kimg: float  # half-life
    dtype: str
    augment: Augment
    stylegan: Growth
    stylegan2: Stylegan2
    r3gan: R3gan

    def __post_init__(self) -> None:
        _choice("train.arch", self.arch, ARCHS)
        _check(
            not self.init_from.startswith("models:")
            or re.fullmatch(r"models:/[^/@]+/[0-9]+", self.init_from) is not None,
            "train.init_from",
            self.init_from,
            "nothing, models:/NAME/VERSION (an alias may move), or a generator folder",
        )
        _check(
            not Path(self.init_from).match("models/candidate"),
            "train.init_from",
            self.init_from,
            "another folder: this one is what the stage writes",
        )
        _check(
            not (self.arch == "r3gan" and self.augment.kind == "ada" and self.augment.target > 0),
            "train.augment.target",
            self.augment.target,
            "0 for r3gan: its loss leaves the sign of D's logits open, so they cannot steer p",
        )
        _check(self.batch >= 4 and self.batch % 4 == 0, "train.batch", self.batch, "a multiple of 4, at least 4")
        for name in ("channel_base", "channel_max", "latent_dim"):
            _check(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        for name in ("total_kimg", "learning_rate", "ema_kimg"):
            _check(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "above 0")
        _check(0 <= self.seed < 2**31, "train.seed", self.seed, "0 to 2147483647")
        _check(self.gamma >= 0, "train.gamma", self.gamma, "at least 0")
        _choice("train.dtype", self.dtype, DTYPES)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out. Nothing here is part of the run key or of a DVC stage."""

    device: str
    workers: int
    threads: int  # per worker; 0 is the worker's share of the cores
    tick_kimg: float
    checkpoint_kimg: float
    keep_checkpoints: int
    max_restarts: int

    def __post_init__(self) -> None:
        _choice("execution.device", self.device, DEVICES)
        _check(self.workers >= 1, "execution.workers", self.workers, "at least 1")
        _check(self.threads >= 0, "execution.threads", self.threads, "0 (the worker's share) or more")
        _check(self.tick_kimg > 0, "execution.tick_kimg", self.tick_kimg, "above 0")
        _check(self.checkpoint_kimg > 0, "execution.checkpoint_kimg", self.checkpoint_kimg, "above 0")
        _check(self.keep_checkpoints >= 1, "execution.keep_checkpoints", self.keep_checkpoints, "at least 1")
        _check(self.max_restarts >= 0, "execution.max_restarts", self.max_restarts, "at least 0")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How a generator is measured."""

    extractor: str  # of EXTRACTORS, or what the TorchScript network in `weights` is called
    weights: str  # its file or URL; random_conv has none
    weights_sha256: str  # of a network of one's own; inception's is pinned
    input_size: int  # pixels; of a network of one's own
    samples: int  # N
    metric: str  # of METRICS: what decides which generator is better
    every_kimg: float  # snapshots measured during training; 0 for none
    pick: str  # which snapshot training exports
    psi: float  # truncation in pictures

    def __post_init__(self) -> None:
        own = self.extractor not in EXTRACTORS
        _check(
            re.fullmatch(r"(?!alpha$)(?!.*_(infinity|rgba)$)[a-z][a-z0-9_]*", self.extractor) is not None,
            "evaluate.extractor",
            self.extractor,
            f"{', '.join(EXTRACTORS)}, or a name in small letters, digits and '_' (not alpha, …_infinity, …_rgba) "
            "for the network in evaluate.weights",
        )
        _check(
            bool(self.weights) == (self.extractor != "random_conv"),
            "evaluate.weights",
            self.weights,
            f"for {self.extractor} {'a TorchScript file or URL' if self.extractor != 'random_conv' else 'nothing'}",
        )
        _check(
            re.fullmatch("[0-9a-f]{64}" if own else "", self.weights_sha256) is not None,
            "evaluate.weights_sha256",
            self.weights_sha256,
            f"for {self.extractor} {'64 small hexadecimal digits' if own else 'nothing'}",
        )
        _check(8 <= self.input_size <= MAX_RESOLUTION, "evaluate.input_size", self.input_size, "8 to 1024")
        _check(self.samples >= 4, "evaluate.samples", self.samples, "at least 4")
        _choice("evaluate.metric", self.metric, METRICS)
        _check(self.every_kimg >= 0, "evaluate.every_kimg", self.every_kimg, "0 (never) or more")
        _choice("evaluate.pick", self.pick, ("last", "best"))
        _check(
            self.pick == "last" or self.every_kimg > 0,
            "evaluate.every_kimg",
            self.every_kimg,
            "above 0 where evaluate.pick is best",
        )
        _check(0 <= self.psi <= 1, "evaluate.psi", self.psi, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a generator must show to become the champion, beside being better than the one there is."""

    max_memorised: float  # share of samples that copy a train image
    min_coverage: float  # as a share of the coverage that reals reach

    def __post_init__(self) -> None:
        for name in ("max_memorised", "min_coverage"):
            _check(0 <= getattr(self, name) <= 1, f"register.gate.{name}", getattr(self, name), "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Register:
    """Where a measured generator is kept."""

    model: str
    gate: Gate

    def __post_init__(self) -> None:
        _check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.model) is not None,
            "register.model",
            self.model,
            "letters, digits, '_', '.' and '-'",
        )


@dataclass(frozen=True, kw_only=True)
class Params:
    """params.yaml, whole."""

    ingest: Ingest
    preprocess: Preprocess
    train: Train
    execution: Execution
    evaluate: Evaluate
    register: Register

    def __post_init__(self) -> None:
        start = self.train.stylegan.start_resolution
        _check(
            start <= self.preprocess.resolution or self.train.arch != "stylegan",
            "train.stylegan.start_resolution",
            start,
            f"at most preprocess.resolution, {self.preprocess.resolution}",
        )
        _check(
            self.train.channel_base >= self.preprocess.resolution,
            "train.channel_base",
            self.train.channel_base,
            f"at least preprocess.resolution, {self.preprocess.resolution}",
        )
        _check(
            self.train.batch % (4 * self.execution.workers) == 0,
            "train.batch",
            self.train.batch,
            f"a multiple of {4 * self.execution.workers}: groups of 4 images for each of execution.workers",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dicts, for the boundaries that want them."""
        return asdict(self)


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _value(key: str, value: object, kind: type) -> object:
    """The value as its field's type. YAML's 5 serves where a float is wanted; true never serves as a number."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
        raise InputError(f"{key} is {value!r}; allowed: {_TYPE_NAMES[kind]}")
    return value


def _section(cls: type, where: str, content: object) -> Any:
    """Builds a section's dataclass from its mapping; refuses unknown and missing keys by their full names."""
    if not isinstance(content, dict):
        raise InputError(f"{where or 'the file'} is {content!r}; allowed: a mapping")
    kinds = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    prefix = f"{where}." if where else ""
    for key in content:
        if key not in names:
            raise InputError(f"unknown key {prefix}{key}; allowed: {', '.join(names)}")
    for name in names:
        if name not in content:
            raise InputError(f"missing key {prefix}{name}")
    return cls(**{name: _entry(prefix + name, content[name], kinds[name]) for name in names})


def _entry(key: str, value: object, kind: type) -> Any:
    return _section(kind, key, value) if is_dataclass(kind) else _value(key, value, kind)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Reads and checks params.yaml.

    Raises:
        InputError: no such file, not YAML, an unknown or missing key, a wrong type, a value out of range.
    """
    import yaml  # here, so that training/loop.py can import the dataclasses on a machine without PyYAML

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # LibYAML's is ten times faster, where PyYAML has it
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        params: Params = _section(Params, "", content)
        return params
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
