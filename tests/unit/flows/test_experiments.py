"""flows/experiments.py: the names of experiments, from whatever a person gives."""

import subprocess
from urllib.parse import quote

import pytest

from flows.experiments import LABEL_LENGTH, label


@pytest.mark.parametrize(
    ("preset", "overrides", "name"),
    [
        ("gpu-64", {}, "gpu-64"),
        ("", {"train.gamma": 0.5}, "train.gamma-0.5"),
        ("gpu-64", {"train.gamma": 0.5, "train.seed": 1}, "gpu-64_train.gamma-0.5_train.seed-1"),
        ("my presets/wide one.yaml", {}, "wide-one"),
        ("", {"ingest.source": "../art [new]*?.zip"}, "ingest.source-art-new-.zip"),
        ("", {"train.mirror": True, "register.model": "x.lock"}, "train.mirror-True_register.model-x.lock"),
        ("", {"preprocess.background": "#ffffff ~^:@{\\"}, "preprocess.background-ffffff"),
        ("-f.yaml", {}, "f"),
        ("Ünique.yaml", {}, "nique"),
    ],
)
def test_a_name_says_what_was_given_in_letters_that_refs_shells_and_urls_take(preset, overrides, name):
    assert label(preset, overrides) == name
    assert quote(name) == name
    subprocess.run(["git", "check-ref-format", f"refs/exps/ab/cd/{name}-1234567"], check=True)


def test_a_long_name_is_cut():
    assert (
        label("", {f"train.key{index}": index for index in range(20)})
        == ("train.key0-0_train.key1-1_train.key2-2_train.key3-3_train.ke"[:LABEL_LENGTH])
    )
