"""What workers get of the nodes that are there."""

from dataclasses import replace

import pytest

from components.cluster import Share, share_of
from components.config import InputError, load_params

EXECUTION = replace(load_params("params.yaml").execution, workers=1)


@pytest.mark.parametrize(
    ("changes", "nodes", "expected"),
    [
        ({}, [(2, 0)], Share(device="cpu", workers=1, cpus=2, threads=2)),
        ({"workers": 2}, [(2, 0)], Share(device="cpu", workers=2, cpus=1, threads=1)),
        ({"threads": 1}, [(8, 0)], Share(device="cpu", workers=1, cpus=8, threads=1)),
        ({"workers": 2}, [(16, 4)], Share(device="cuda", workers=2, cpus=8, threads=8)),
        ({"device": "cpu"}, [(16, 4)], Share(device="cpu", workers=1, cpus=16, threads=16)),
        ({}, [(8, 1), (8, 1)], Share(device="cuda", workers=1, cpus=8, threads=8)),
        ({"workers": 2}, [(16, 1)], Share(device="cuda", workers=1, cpus=16, threads=16)),
        ({}, [(16, 1), (64, 0)], Share(device="cuda", workers=1, cpus=16, threads=16)),
        ({"workers": 3}, [(3, 0), (3, 0)], Share(device="cpu", workers=3, cpus=1, threads=1)),
    ],
)
def test_share(changes, nodes, expected):
    assert share_of(replace(EXECUTION, **changes), nodes) == expected


@pytest.mark.parametrize(
    ("changes", "nodes", "message"),
    [
        ({"device": "cuda"}, [(8, 0)], "there is no GPU here; allowed: cpu, auto"),
        ({"workers": 4}, [(2, 0)], "execution.workers is 4; allowed: 1 to 2, the CPUs here"),
        ({"workers": 4, "device": "cuda"}, [(16, 2)], "allowed: 1 to 2, the GPUs here"),
    ],
)
def test_what_is_not_there_is_said(changes, nodes, message):
    with pytest.raises(InputError, match=message):
        share_of(replace(EXECUTION, **changes), nodes)
