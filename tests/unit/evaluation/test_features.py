"""Finding, checking, loading and naming extractors, with small TorchScript networks whose answers are known."""

import hashlib
import warnings
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from components.config import Evaluate, InputError
from components.evaluation import features
from components.evaluation.features import ALPHA, ExtractorSpec, find_extractor, load_extractor, metric_name
from components.evaluation.random_conv import RandomConv
from components.evaluation.torchscript import INCEPTION_SHA256, Inception, TorchScript
from tests.servers import serving


class Ranges(nn.Module):
    """Mean, least and greatest value of each channel, and the size that it was given."""

    def forward(self, x):
        flat = x.flatten(2)
        return torch.cat([flat.mean(2), flat.amin(2), flat.amax(2), torch.full_like(flat[:, 0, :1], x.shape[2])], 1)


class StandIn(nn.Module):
    """Called as Inception is; training mode would shift the features."""

    def __init__(self):
        super().__init__()
        self.ranges, self.dropout = Ranges(), nn.Dropout(0.5)

    def forward(self, x, return_features: bool = False):
        return self.dropout(self.ranges(x)) if return_features else x.new_zeros(len(x), 1008)


class Flat(nn.Module):
    def forward(self, x):
        return x.mean()


class Maps(nn.Module):
    def forward(self, x):
        return x


class Half(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).half()


class Pair(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x


class Fussy(nn.Module):
    def forward(self, x):
        assert x.shape[2] == 5, "five pixels wide"
        return x.mean((2, 3))


def save(path, module):
    """Writes the module as TorchScript.

    Returns:
        The path and its SHA-256.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def params(**changes):
    values = {"extractor": "own", "weights": "own.pt", "weights_sha256": "0" * 64, "input_size": 48, "samples": 9}
    return Evaluate(**values | {"metric": "frechet", "every_kimg": 0.0, "pick": "last", "psi": 0.7} | changes)


@pytest.fixture
def own(tmp_path):
    return save(tmp_path / "own.pt", Ranges())


@pytest.fixture
def stand_in(tmp_path):
    return save(tmp_path / "inception.pt", StandIn())


def images(count, size):
    """Black and white noise: it overshoots when it is resized."""
    return np.random.default_rng(0).integers(0, 2, (count, size, size, 3), dtype=np.uint8) * np.uint8(255)


def by_pillow(pictures, size):
    """The images resized and clamped, [N, 3, S, S] in 0..255."""
    planes = pictures.transpose(0, 3, 1, 2).astype(np.float32)
    resized = [
        Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC) for plane in np.concatenate(planes)
    ]
    return np.clip(np.stack(resized), 0, 255).reshape(-1, 3, size, size)


def known(x):
    """What Ranges gives."""
    flat = x.reshape(*x.shape[:2], -1)
    return np.concatenate([flat.mean(2), flat.min(2), flat.max(2), np.full((len(x), 1), x.shape[2])], axis=1)


@pytest.mark.parametrize("source", [32, 48, 100])
def test_a_network_of_one_s_own_sees_0_to_1_at_its_size(own, source):
    extractor = TorchScript("own", *own, 48)
    pictures = images(5, source)
    assert (extractor.name, extractor.dim, extractor.channels, extractor.published) == ("own", 10, 3, False)
    found = extractor(pictures)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, known(by_pillow(pictures, 48) / 255), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cat([extractor(pictures[:2]), extractor(pictures[2:])]), found)
    floats = torch.tensor(pictures).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(extractor.features(floats), found)
    faint = extractor.features(torch.full((1, 3, source, source), 0.3))
    torch.testing.assert_close(faint[:, :9], torch.full((1, 9), 0.3 / 255))


def test_inception_sees_0_to_255_at_299(stand_in):
    extractor = Inception(*stand_in)
    pictures = images(3, 64)
    assert (extractor.name, extractor.dim, extractor.published) == ("inception", 10, False)
    np.testing.assert_allclose(extractor(pictures), known(by_pillow(pictures, 299)), rtol=0, atol=0.01)


def test_a_digest_covers_weights_size_and_scaling_but_not_the_place(own, stand_in, tmp_path):
    path, sha256 = own
    moved = tmp_path / "moved.pt"
    moved.write_bytes(path.read_bytes())
    first = TorchScript("own", path, sha256, 48).digest
    assert TorchScript("other", moved, sha256, 48).digest == first
    others = {TorchScript("own", path, sha256, 64).digest, Inception(*stand_in).digest, sha256, first}
    assert len(others) == 4


def test_nothing_is_loaded_whose_digest_is_another(own, stand_in, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)
    (path, sha256), (inception, found) = own, stand_in
    wanted = "1" * 64
    with pytest.raises(InputError, match=f"own.pt has sha256 {sha256}; allowed: {wanted}$"):
        find_extractor(params(weights=str(path), weights_sha256=wanted))
    with pytest.raises(InputError, match=f"own.pt has sha256 {sha256}; allowed: {wanted}$"):
        TorchScript("own", path, wanted, 48)
    with pytest.raises(InputError, match=f"inception.pt has sha256 {found}; allowed: {INCEPTION_SHA256}$"):
        find_extractor(params(extractor="inception", weights=str(inception), weights_sha256=""))
    with pytest.raises(InputError, match=f"allowed: {INCEPTION_SHA256}$"):
        Inception(inception)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("missing.pt", "missing.pt: No such file or directory; allowed: the file of a TorchScript network"),
        ("s3://bucket/own.pt", "evaluate.weights is 's3://bucket/own.pt'; allowed: a file, or an http"),
        (".", ": Is a directory; allowed: the file of"),
    ],
)
def test_what_is_no_file_is_refused(weights, message):
    with pytest.raises(InputError, match=message):
        find_extractor(params(weights=weights))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Flat, r"gave float32 \[\]"),
        (Maps, r"gave float32 \[2, 3, 48, 48\]"),
        (Half, r"gave float16 \[2, 3\]"),
        (Pair, "gave tuple"),
        (Fussy, r"failed \(RuntimeError: AssertionError: five pixels wide\)"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_one_line(module, message, tmp_path):
    path, sha256 = save(tmp_path / "own.pt", module())
    with pytest.raises(InputError, match=f"^.*own.pt {message}; allowed: a module from float32 .* to .*$") as raised:
        load_extractor(ExtractorSpec("own", path, sha256, 48))
    assert "\n" not in str(raised.value)


def test_a_network_that_is_not_called_as_inception_is_refused(own):
    with pytest.raises(
        InputError, match=r"own.pt failed \(forward\(\) expected at most 2 argument\(s\).*; allowed: a m"
    ):
        Inception(*own)


def test_what_is_no_torchscript_is_refused(tmp_path):
    path = tmp_path / "own.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"own.pt: [^\n]*; allowed: what torch.jit.save writes$"):
        TorchScript("own", path, hashlib.sha256(path.read_bytes()).hexdigest(), 48)


def test_a_url_is_downloaded_once_and_checked(own, tmp_path, monkeypatch):
    sha256 = own[1]
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path))
    with serving(server):
        url = f"http://127.0.0.1:{server.server_port}/own.pt"
        spec = find_extractor(params(weights=url, weights_sha256=sha256))
        assert find_extractor(params(weights=url, weights_sha256=sha256)) == spec
        assert asked == ["/own.pt"]
        with pytest.raises(InputError, match=f"own.pt' has sha256 {sha256}; allowed: {'1' * 64}"):
            find_extractor(params(weights=url, weights_sha256="1" * 64))
    assert spec == ExtractorSpec("own", tmp_path / "work/.cache/downloads" / sha256, sha256, 48)
    assert load_extractor(spec).name == "own"


def test_an_extractor_is_loaded_once_a_process(own):
    path, sha256 = own
    spec = find_extractor(params(weights=str(path), weights_sha256=sha256))
    assert spec == ExtractorSpec("own", path, sha256, 48)
    assert load_extractor(replace(spec)) is load_extractor(spec)
    assert load_extractor(spec, 4) is not load_extractor(spec)
    built_in = find_extractor(params(extractor="random_conv", weights="", weights_sha256="", input_size=224))
    assert built_in == find_extractor(params(extractor="random_conv", weights="", weights_sha256=""))
    assert load_extractor(built_in).digest == RandomConv().digest


def test_only_the_pinned_file_gives_published_names(own, stand_in, monkeypatch):
    path, sha256 = stand_in
    kinds = ("frechet", "frechet_infinity", "kernel", "coverage")
    loaded = load_extractor(ExtractorSpec("inception", path, sha256, 299))
    assert [metric_name(kind, loaded) for kind in kinds] == [
        *("frechet_inception", "frechet_inception_infinity", "kernel_inception", "coverage")
    ]
    monkeypatch.setattr("components.evaluation.torchscript.INCEPTION_SHA256", sha256)
    monkeypatch.setattr(features, "INCEPTION_SHA256", sha256)
    pinned = find_extractor(params(extractor="inception", weights=str(path), weights_sha256=""))
    published = Inception(pinned.weights, pinned.sha256)
    assert [metric_name(kind, published) for kind in kinds] == ["fid", "fid_infinity", "kid", "coverage"]
    impostor = load_extractor(ExtractorSpec("fid", *own, 48))
    assert metric_name("frechet", impostor) == "frechet_fid"


@pytest.mark.parametrize("name", ["random_conv", "inception", "own"])
def test_four_channels_are_never_published(name, own, stand_in, monkeypatch):
    path, sha256 = stand_in if name == "inception" else own
    monkeypatch.setattr("components.evaluation.torchscript.INCEPTION_SHA256", sha256)
    spec = ExtractorSpec(name, None if name == "random_conv" else path, sha256, 48)
    extractor = load_extractor(spec, channels=4)
    assert (extractor.channels, extractor.published) == (4, False)
    assert metric_name("frechet", extractor) == f"frechet_{name}_rgba"
    assert extractor.dim == 2 * load_extractor(spec).dim
    assert metric_name("frechet", load_extractor(ALPHA, 4)) == "frechet_alpha"
