"""When a training is interrupted for more workers."""

from dataclasses import replace

import pytest

from components import cluster as module
from components.cluster import MORE_S, Cluster
from components.config import load_params


@pytest.fixture
def nodes(monkeypatch):
    """What the nodes have, and have free, and a clock: to be set."""
    found = {"all": [(2, 0)], "free": [(2, 0)], "now": 0.0}
    monkeypatch.setattr(module, "_all", lambda: found["all"])
    monkeypatch.setattr(module, "_free", lambda: found["free"])
    monkeypatch.setattr(module.time, "monotonic", lambda: found["now"])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: found.update(now=found["now"] + seconds))
    return found


def test_room_for_more_has_to_last_and_counts_from_the_start_of_those_at_work(nodes):
    execution = replace(load_params("params.yaml").execution, workers="1-4")
    there = Cluster(execution, batch=16, joined=True)
    assert there.share().workers == 2
    nodes["free"] = []
    assert not there.has_more()
    nodes["free"] = [(2, 0)]
    assert not there.has_more()
    nodes["now"] += MORE_S / 2
    nodes["free"] = []
    assert not there.has_more()
    nodes["free"] = [(2, 0)]
    assert not there.has_more()
    nodes["now"] += MORE_S + 1
    assert there.has_more()

    assert there.share().workers == 2  # another took the rest
    assert not there.has_more(), "what was free before these workers began says nothing"


def test_a_node_with_gpus_that_is_on_its_way_is_not_missed(nodes, monkeypatch):
    """A head without CPUs is no reason to settle on CPUs."""
    execution = replace(load_params("params.yaml").execution, workers=2, wait_s=60)
    nodes["all"] = nodes["free"] = [(0, 0)]

    def come(seconds):
        nodes["now"] += seconds
        if nodes["now"] > 10:
            nodes["all"] = nodes["free"] = [(0, 0), (16, 2)]

    monkeypatch.setattr(module.time, "sleep", come)
    assert Cluster(execution, batch=16, joined=True).share().device == "cuda"


def test_a_node_that_is_about_to_go_is_told_once(nodes, monkeypatch):
    leaving = set()
    monkeypatch.setattr(module, "_leaving", lambda: set(leaving))
    there = Cluster(load_params("params.yaml").execution, batch=16, joined=True)
    told = []
    for change in (set(), {"a"}, {"a"}, {"a", "b"}, {"b"}, set(), {"b"}):
        leaving = change
        told.append(there.is_losing())
    assert told == [False, True, False, True, False, False, True]


def test_a_ray_of_its_own_has_what_it_has(nodes):
    there = Cluster(replace(load_params("params.yaml").execution, workers="1-4"), batch=16, joined=False)
    assert there.share().workers == 2
    nodes["now"] += MORE_S + 1
    assert not there.has_more()
    nodes["now"] += MORE_S + 1
    assert not there.has_more()
