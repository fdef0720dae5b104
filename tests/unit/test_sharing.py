"""What workers get of the nodes that are there, and how long they wait for it."""

from dataclasses import replace

import pytest

from components.config import InputError, UnavailableError, load_params
from components.sharing import SETTLED_S, Aim, Share, ShortageError, aim_at, has_room, in_time, share_of

EXECUTION = replace(load_params("params.yaml").execution, workers=1)
BATCH = 48  # for 1, 2, 3, 4, 6 or 12 workers


def what_there_is(execution, nodes):
    return share_of(execution, aim_at(execution, BATCH, nodes), nodes)


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
        ({"cpus": 2}, [(8, 0)], Share(device="cpu", workers=1, cpus=2, threads=2)),
        ({"cpus": 2, "threads": 1, "workers": 4}, [(8, 0)], Share(device="cpu", workers=4, cpus=2, threads=1)),
        ({"workers": "auto"}, [(8, 0)], Share(device="cpu", workers=6, cpus=1, threads=1)),
        ({"workers": "auto"}, [(64, 0)], Share(device="cpu", workers=12, cpus=5, threads=5)),
        ({"workers": "auto", "cpus": 3}, [(8, 0)], Share(device="cpu", workers=2, cpus=3, threads=3)),
        ({"workers": "auto"}, [(16, 4), (16, 3)], Share(device="cuda", workers=6, cpus=5, threads=5)),
        ({"workers": "2-5"}, [(8, 0)], Share(device="cpu", workers=4, cpus=2, threads=2)),
        ({"workers": "2-5"}, [(2, 0), (1, 0)], Share(device="cpu", workers=3, cpus=1, threads=1)),
        ({"workers": "2-4"}, [(8, 1)], Share(device="cuda", workers=1, cpus=8, threads=8)),
        ({"workers": 4}, [(16, 3)], Share(device="cuda", workers=3, cpus=5, threads=5)),
    ],
)
def test_share(changes, nodes, expected):
    assert what_there_is(replace(EXECUTION, **changes), nodes) == expected


def test_a_run_that_was_on_gpus_stays_on_them():
    """Unless it is told otherwise; a run that was not goes to them where there are any."""
    with pytest.raises(
        ShortageError, match=r"device is 'auto', the run has been on GPUs, and .*; allowed: cpu$"
    ) as found:
        aim_at(EXECUTION, BATCH, [(8, 0)], was_on="cuda")
    assert found.value.missing == "1 GPU: the cluster has none for them"
    assert aim_at(replace(EXECUTION, device="cpu"), BATCH, [(8, 0)], was_on="cuda").device == "cpu"
    assert aim_at(EXECUTION, BATCH, [(8, 1)], was_on="cuda").device == "cuda"
    assert aim_at(EXECUTION, BATCH, [(8, 1)], was_on="cpu").device == "cuda"
    assert aim_at(EXECUTION, BATCH, [(8, 0)], was_on="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("changes", "nodes", "message"),
    [
        ({"device": "cuda"}, [(8, 0)], "there is no GPU here; allowed: cpu, auto"),
        ({"workers": 4}, [(2, 0)], "execution.workers is 4; allowed: at most 2, by the CPUs here"),
        ({"workers": 4, "device": "cuda"}, [(16, 2)], "allowed: at most 2, by the GPUs here"),
        ({"workers": "3-4"}, [(2, 0)], "execution.workers is '3-4'; allowed: at most 2, by the CPUs here"),
        ({"cpus": 4}, [(2, 0)], r"execution.workers is 1 with 4 CPUs each \(execution.cpus\); allowed: at most 0"),
    ],
)
def test_what_is_not_there_is_said(changes, nodes, message):
    with pytest.raises(InputError, match=message):
        what_there_is(replace(EXECUTION, **changes), nodes)


def test_a_run_keeps_to_what_it_was_after_at_first():
    """Its GPU is lost: it waits for another one, and takes neither CPUs nor fewer workers than it had."""
    lost = [(16, 1), (16, 0)]
    for changes, counts in (({"workers": 2}, [2]), ({"workers": "2-3"}, [2, 3]), ({"workers": 12}, [2])):
        execution = replace(EXECUTION, **changes)
        aim = aim_at(execution, BATCH, [(16, 1), (16, 1)])
        assert aim == Aim(device="cuda", counts=counts)
        with pytest.raises(ShortageError) as short:
            share_of(execution, aim, lost)
        assert short.value.missing == "2 GPUs: the cluster has 1 for them"


def waited(looks, *, counts=(2,), wait_s=60.0, told=lambda: False):
    """in_time() of what the nodes are at each look."""
    execution = replace(EXECUTION, workers=2)
    aim, nodes = Aim(device="cpu", counts=list(counts)), iter(looks)
    look, most = lambda: share_of(execution, aim, next(nodes)), max(counts)
    return in_time(look, lambda share: share.workers == most, wait_s=wait_s, told=told).workers


@pytest.fixture
def clock(monkeypatch):
    """Of components.sharing: half a second passes with each sleep."""
    now = [0.0]
    monkeypatch.setattr("components.sharing.time.monotonic", lambda: now[0])
    monkeypatch.setattr("components.sharing.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.usefixtures("clock")
def test_a_cluster_has_time_to_grow(capsys):
    """What is missing is said when it changes, and the share is that of the nodes that came in time."""
    assert waited([[(0, 0)], [(0, 0)], [(0, 0), (1, 0)], [(1, 0), (1, 0)]]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "waiting for 2 CPUs: the cluster has none for them",
        "waiting for 2 CPUs: the cluster has 1 for them",
    ]


@pytest.mark.usefixtures("clock")
def test_a_cluster_that_does_not_grow_in_time():
    with pytest.raises(
        UnavailableError, match=r"^waited 2 s \(execution.wait_s\) for 2 CPUs: the cluster has 1 for them$"
    ):
        waited([[(1, 0)]] * 5, wait_s=2)


@pytest.mark.usefixtures("clock")
def test_who_is_told_to_end_waits_no_longer():
    told = iter([False, True])
    with pytest.raises(UnavailableError, match="for 2 CPUs"):
        waited([[(1, 0)]] * 2, told=lambda: next(told))


def test_fewer_workers_than_may_be_are_taken_when_no_more_have_come_for_a_while(clock):
    assert waited([[(1, 0)]] * 3 + [[(2, 0)]] * 20, counts=(1, 2, 4)) == 2
    assert clock[0] == 3 * 0.5 + SETTLED_S
    assert waited([[(4, 0)]], counts=(1, 2, 4)) == 4


def test_a_number_that_never_stays_the_same_is_taken_at_the_end_of_the_time(clock):
    assert waited([[(1, 0)], [(2, 0)]] * 20, counts=(1, 2, 4), wait_s=10) in (1, 2)
    assert clock[0] == 10


@pytest.mark.parametrize(
    ("workers", "free", "expected"),
    [
        ("1-4", [(1, 0)], True),
        ("1-4", [], False),
        ("1-2", [(8, 0)], False),
        (2, [(8, 0)], False),
        ("auto", [(1, 0), (1, 0)], True),
    ],
)
def test_room_for_more(workers, free, expected):
    execution = replace(EXECUTION, workers=workers)
    assert has_room(execution, aim_at(execution, BATCH, [(2, 0)]), 2, free) is expected


def test_room_for_more_is_for_a_whole_deal_of_the_batch():
    """48 images go to 4 workers or to 6, never to 5."""
    execution = replace(EXECUTION, workers="auto")
    aim = aim_at(execution, BATCH, [(8, 4)])
    assert not has_room(execution, aim, 4, [(8, 1)])
    assert has_room(execution, aim, 4, [(8, 2)])
