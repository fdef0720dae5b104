"""Presets and single values over params.yaml: each preset is whole and checked; text and comments around stay."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.config import InputError, checked, load_params, read_yaml
from components.config.overlay import overlay, parse_settings, read_preset, with_values, write_params

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A copy of params.yaml with presets/ beside it, in the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    return path


def leaves(content, where=""):
    for key, value in content.items():
        yield from leaves(value, f"{where}{key}.") if isinstance(value, dict) else [(f"{where}{key}", value)]


def test_the_presets_are_those_that_are_promised():
    assert PRESETS == ["gpu-128", "gpu-256", "gpu-64", "multi-gpu-256", "tiny-set", "week-256"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_every_check_and_says_what_it_says(params, name):
    before, preset = read_yaml(params), read_preset(name)
    write_params(name, {})
    after = load_params(params).as_dict()
    wanted = dict(leaves(preset))
    assert dict(leaves(after)) == dict(leaves(before)) | wanted
    assert set(wanted) <= set(dict(leaves(before)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_numbers_are_the_recipes(name):
    """γ = 0.0002 · pixels² / batch, an EMA of batch · 10 / 32 kimg; Karras et al. 2020, configuration "auto"."""
    preset = read_preset(str(ROOT / "presets" / f"{name}.yaml"))
    train, resolution = preset["train"], preset["preprocess"]["resolution"]
    gpus = int(str(preset["execution"]["workers"]).rpartition("-")[2])  # the most of a range
    assert train["batch"] == max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    assert train["gamma"] == pytest.approx(0.0002 * resolution**2 / train["batch"])
    assert train["ema_kimg"] == train["batch"] * 10 / 32
    assert (train["learning_rate"], train["augment"]["max_p"], train["dtype"]) == (0.0025, 0.8, "bfloat16")


def test_a_preset_then_single_values_and_the_same_again_changes_nothing(params):
    changes = write_params("gpu-64", {"train.gamma": 0.5, "train.augment.kind": "none", "execution.workers": 2})
    assert "train.gamma: 10.0 → 0.5" in changes
    assert "train.arch: stylegan → stylegan2" in changes
    assert not any(change.startswith(("execution.workers", "train.augment.kind")) for change in changes)
    assert load_params(params).train.batch == 32
    text = params.read_bytes()
    assert write_params("gpu-64", {"train.gamma": 0.5, "train.augment.kind": "none", "execution.workers": 2}) == []
    assert params.read_bytes() == text


def test_a_preset_may_be_a_file_of_ones_own(params):
    (params.parent / "mine.yaml").write_text("train: {seed: 7}\n")
    assert write_params("mine.yaml", {}) == ["train.seed: 0 → 7"]


def test_comments_and_everything_else_stay_where_they_are(params):
    text = params.read_text()
    changed = with_values(
        text, {"train.learning_rate": 5e-5, "ingest.source": "my # art: 1", "train.total_kimg": 25000, "train.seed": 1}
    )
    expected = (
        text.replace("learning_rate: 0.004\n", "learning_rate: 5.0e-05\n", 1)
        .replace("source: sources/drawn.yaml   #", "source: 'my # art: 1'        #")
        .replace("total_kimg: 42               #", "total_kimg: 25000            #")
        .replace("  seed: 0\n", "  seed: 1\n", 1)
    )
    assert changed == expected
    assert len(text.splitlines()) == len(changed.splitlines())
    assert yaml.safe_load(changed)["ingest"]["source"] == "my # art: 1"


def test_flow_style_is_edited_too():
    text = "a: {b: 1, c: [x], d: {e: 2}}  # note\nf: g"
    assert with_values(text, {"a.d.e": 30, "a.b": "y", "f": True}) == "a: {b: y, c: [x], d: {e: 30}}  # note\nf: true"


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("gpu-65", {}, "preset is 'gpu-65': allowed: gpu-128, gpu-256, gpu-64, multi-gpu-256, tiny-set, week-256, or"),
        ("absent.yaml", {}, "preset is 'absent.yaml': allowed: gpu-128"),
        ("bad.yaml", {}, "preset is 'bad.yaml': unknown key train.gama; allowed: arch"),
        ("list.yaml", {}, r"preset is 'list.yaml': list.yaml is \[1\]; allowed: sections of params.yaml"),
        ("", {"train.gama": 1}, "unknown key train.gama; allowed: arch"),
        ("", {"train": 1}, "train is 1; allowed: a mapping of arch"),
        ("", {"train.gamma.x": 1}, r"train.gamma is {'x': 1}; allowed: one value"),
        ("", {"train.gamma": -1}, r"params.yaml \+ train.gamma: train.gamma is -1.0; allowed: at least 0"),
        ("gpu-64", {"train.batch": 30}, r"params.yaml \+ gpu-64 \+ train.batch: train.batch is 30; allowed: a mult"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(params, preset, overrides, message):
    (params.parent / "bad.yaml").write_text("train: {seed: 7, gama: 1}")
    (params.parent / "list.yaml").write_text("[1]")
    text = params.read_bytes()
    with pytest.raises(InputError, match=message) as caught:
        write_params(preset, overrides)
    assert "\n" not in str(caught.value)
    assert params.read_bytes() == text


def test_overlay_makes_a_new_mapping():
    params = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlay(params, {"a": {"c": 5}}) == {"a": {"b": 1, "c": 5}, "d": 3}
    assert params == {"a": {"b": 1, "c": 2}, "d": 3}


def test_settings_are_typed_as_in_yaml():
    values = {"a": "5e-5", "b.c": "true", "d": "text = more", "e": "'1'", "f": "", "g": "-1"}
    found = parse_settings(f"{key}={value}" for key, value in values.items())
    assert found == {"a": 5e-5, "b.c": True, "d": "text = more", "e": "1", "f": None, "g": -1}
    for wrong in ("train.gamma", "=3", "a=[1"):
        with pytest.raises(InputError, match="allowed: KEY=VALUE"):
            parse_settings([wrong])


@pytest.mark.parametrize("module", ["components.config", "flows"])
@pytest.mark.parametrize("flags", [["--preset", "gpu-65"], ["--set", "train.gama=1"], ["--set", "train.gamma"]])
def test_a_wrong_flag_is_one_line_and_exit_code_2(params, module, flags):
    command = [sys.executable, "-m", module, *flags]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_command_says_what_it_changes(params):
    command = [sys.executable, "-m", "components.config", "--preset", "week-256", "--set", "train.seed=3"]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "train.seed: 0 → 3\n" in done.stdout
    assert checked(read_yaml(params), "params.yaml").train.total_kimg == 25000
