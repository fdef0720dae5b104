"""load_params against each kind of bad file, and the meaning of every section."""

import copy
from pathlib import Path

import pytest
import yaml

from components.config import InputError, load_params


@pytest.fixture
def content():
    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))


def load(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return load_params(path)


def test_the_projects_own_file_is_read_as_it_stands(content):
    assert load_params("params.yaml").as_dict() == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "not YAML"),
        ("", "the file is None; allowed: a mapping"),
        ("- 1\n", "allowed: a mapping"),
        ("train: 3\n", "missing key ingest"),
    ],
)
def test_files_that_are_no_params(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"absent.yaml: No such file"):
        load_params(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.batchsize", 3, r"unknown key train.batchsize; allowed: arch, init_from, batch"),
        ("trian", {}, r"unknown key trian; allowed: ingest, preprocess"),
        ("train.batch", None, "train.batch is None; allowed: a whole number"),
        ("train.batch", "32", "train.batch is '32'; allowed: a whole number"),
        ("train.batch", 32.0, r"train.batch is 32.0; allowed: a whole number"),
        ("train.batch", True, "train.batch is True; allowed: a whole number"),
        ("train.batch", 30, "a multiple of 4"),
        ("train.total_kimg", "many", "allowed: a number"),
        ("train.total_kimg", float("nan"), "allowed: a number"),
        ("train.total_kimg", 0, "above 0"),
        ("train.arch", "vae", "allowed: dcgan, progan, stylegan, stylegan2, r3gan"),
        ("train.dtype", "int8", "allowed: float32, bfloat16"),
        ("train.init_from", "models:/x@champion", r"allowed: nothing, models:/NAME/VERSION \(an alias may move\)"),
        ("train.init_from", "models/candidate", "this one is what the stage writes"),
        ("train.augment.kind", "flip", "allowed: none, ada, diffaugment"),
        ("train.augment.p", 0.9, r"0 to train.augment.max_p, 0\.8"),
        ("train.augment.target", 1, "0 .p stays. or more, below 1"),
        ("train.r3gan.penalty_every", 0, "at least 1"),
        ("train.stylegan2.path_length_weight", -1, "at least 0"),
        ("train.ema_kimg", -1, r"0 \(no average\) or more"),
        ("train.progan.start_resolution", 2, r"train.progan.start_resolution is 2; allowed: a power of two from 4"),
        ("train.progan.fade_kimg", 0, "train.progan.fade_kimg is 0.0; allowed: above 0"),
        ("train.seed", -1, "0 to 2147483647"),
        ("train.stylegan2.style_mixing", 1.5, "0 to 1"),
        ("train.channel_base", 16, "at least preprocess.resolution, 32"),
        ("train.stylegan.start_resolution", 64, "at most preprocess.resolution, 32"),
        ("preprocess.resolution", 48, "a power of two from 8 to 1024"),
        ("preprocess.resolution", 2048, "a power of two from 8 to 1024"),
        ("preprocess.background", "white", '"#rrggbb"'),
        ("preprocess.background", "#ffffff, #000000", "several with spaces between"),
        ("preprocess.channels", 2, "allowed: 3, 4"),
        ("preprocess.frames", "second", "allowed: first, all"),
        ("preprocess.trim", 1, "preprocess.trim is 1; allowed: true or false"),
        ("preprocess.margin", 0.46, "4 of 32 pixels left"),
        ("preprocess.shape", "stretch", "allowed: pad, crop"),
        ("preprocess.mirrors", "drop it", "allowed: ignore, report, drop"),
        ("preprocess.max_pixels", 0, "at least 1"),
        ("preprocess.holdout", 0.9, "at most 0.5"),
        ("execution.ray_address", "head:6379", "nothing, or the address of a cluster's dashboard, http://HOST:8265"),
        ("execution.wait_s", -1, "at least 0"),
        ("execution.device", "tpu", "auto, cpu, cuda"),
        ("execution.workers", 0, "execution.workers is 0; allowed: at least 1; auto; or a range as 2-8"),
        ("execution.workers", "4-2", "execution.workers is '4-2'; allowed: at least 1; auto; or a range as 2-8"),
        ("execution.workers", "0-2", "or a range as 2-8"),
        ("execution.workers", "2-", "or a range as 2-8"),
        ("execution.workers", "-2", "or a range as 2-8"),
        ("execution.workers", "all", "or a range as 2-8"),
        ("execution.workers", 2.0, "execution.workers is 2.0; allowed: a whole number or text, in quotes"),
        ("execution.workers", "5-7", "train.batch is 16; allowed: what 5-7 workers .* can share in groups of 4"),
        ("execution.cpus", -1, r"0 \(the worker's share\) or more"),
        ("execution.backup", "/mnt/backup", "nothing, or s3://bucket/prefix"),
        ("execution.backup", "s3://", "nothing, or s3://bucket/prefix"),
        ("execution.workers", 3, "train.batch is 16; allowed: what 3 workers .* can share .* a multiple of 12"),
        ("evaluate.extractor", "alpha", "or a name in small letters"),
        ("evaluate.extractor", "dino_infinity", "or a name in small letters"),
        ("evaluate.extractor", "inception", "evaluate.weights is ''; allowed: for inception a TorchScript file or URL"),
        ("evaluate.weights", "w.pt", "evaluate.weights is 'w.pt'; allowed: for random_conv nothing"),
        ("evaluate.weights_sha256", "0", "allowed: for random_conv nothing"),
        ("evaluate.metric", "coverage", "frechet, frechet_infinity, kernel"),
        ("evaluate.pick", "first", "last, best"),
        ("evaluate.every_kimg", -1, r"0 \(never\) or more"),
        ("register.gate.min_coverage", 2, "register.gate.min_coverage is 2.0; allowed: 0 to 1"),
        ("register.gate.unknown", 2, "unknown key register.gate.unknown; allowed: max_memorised, min_coverage"),
        ("register.gate", 5, "register.gate is 5; allowed: a mapping"),
        ("evaluate.extractor", "FID", "allowed: random_conv, inception, or a name"),
        ("evaluate.samples", 3, "at least 4"),
        ("register.model", "a/b", "letters, digits"),
        ("register.promote", "never", "register.promote is 'never'; allowed: auto, ask"),
        ("ingest", 5, "ingest is 5; allowed: a mapping"),
        ("ingest.source", "", "a path"),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(tmp_path, content, key, value, message):
    changed = copy.deepcopy(content)
    *path, last = key.split(".")
    section = changed
    for name in path:
        section = section[name]
    section[last] = value
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, changed)
    assert "\n" not in str(caught.value)


def test_every_missing_key_is_named(tmp_path, content):
    for section, values in content.items():
        for name in values:
            changed = copy.deepcopy(content)
            del changed[section][name]
            with pytest.raises(InputError, match=f"missing key {section}.{name}"):
                load(tmp_path, changed)


def test_background_as_values(content, tmp_path):
    content["preprocess"]["background"] = "#0aFF80"
    assert load(tmp_path, content).preprocess.palette == [(10, 255, 128)]
    content["preprocess"]["background"] = "#0aFF80 #000102"
    assert load(tmp_path, content).preprocess.palette == [(10, 255, 128), (0, 1, 2)]
    content["preprocess"]["background"] = "border"
    assert load(tmp_path, content).preprocess.palette is None
