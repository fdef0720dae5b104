"""The account of a run's snapshots: each measured once, the best kept, whatever becomes of a measurement."""

import json
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from components.config import InputError
from components.evaluation import snapshots
from components.evaluation.candidates import Generated
from components.evaluation.snapshots import Watch, best, catch_up, choose_best, lines

BENCH = SimpleNamespace(yardstick={"extractor_digest": "e", "samples": 9}, metric="distance")


class Workers:
    """Answers when it is told to; `values` are the distances by nimg, and an exception is raised."""

    def __init__(self, values):
        self.values, self.sent = values, []

    def __call__(self, function, exam):
        future = Future()
        self.sent.append((exam, future))
        return future

    def answer(self):
        for exam, future in self.sent:
            if not future.done():
                value = self.values[int(exam.snapshot.name)]
                if isinstance(value, Exception):
                    future.set_exception(value)
                else:
                    future.set_result(line(exam.snapshot, value, exam.bench))

    def asked(self):
        return [int(exam.snapshot.name) for exam, _ in self.sent]


def line(folder, value, bench=BENCH):
    nimg, digest = int(folder.name), Generated.at(folder).digest
    return {"nimg": nimg, "kimg": nimg / 1000, "digest": digest, "yardstick": bench.yardstick} | {
        "holdout": {"distance": value}
    }


def put(run, nimg, weights=None):
    folder = run / "snapshots" / f"{nimg:09d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generator.safetensors").write_text(weights or f"weights {nimg}")
    (folder / "config.json").write_text("{}")
    return folder


def account(run, values, bench=BENCH):
    """One start of a run whose workers measure everything at once; what was asked of them."""
    workers = Workers(values)
    watch = Watch(run, bench, workers)
    watch.look()
    workers.answer()
    watch.finish()
    return workers.asked()


def there(run):
    return [int(folder.name) for folder in snapshots.snapshots(run)]


def test_each_is_measured_once_and_the_best_and_the_newest_are_kept(tmp_path):
    workers = Workers({10: 5.0, 20: 3.0, 30: 4.0, 40: 4.5})
    watch = Watch(tmp_path, BENCH, workers)
    for nimg in (10, 20, 30, 40):
        put(tmp_path, nimg)
        watch.look()
        watch.look()
        workers.answer()
    watch.finish()
    assert workers.asked() == [10, 20, 30, 40]
    assert [found["holdout"]["distance"] for found in lines(tmp_path)] == [5.0, 3.0, 4.0, 4.5]
    assert there(tmp_path) == [20, 40]
    assert best(tmp_path, BENCH).name == "000000020"


def test_looking_never_waits_and_nothing_unmeasured_is_deleted(tmp_path):
    workers = Workers({10: 1.0, 20: 2.0, 30: 3.0})
    watch = Watch(tmp_path, BENCH, workers)
    for nimg in (10, 20, 30):
        put(tmp_path, nimg)
        watch.look()
    assert lines(tmp_path) == []
    workers.sent[0][1].set_result(line(tmp_path / "snapshots/000000010", 1.0))
    watch.look()
    assert there(tmp_path) == [10, 20, 30]
    workers.answer()
    watch.finish()
    assert there(tmp_path) == [10, 30]


def test_going_on_measures_only_what_is_not(tmp_path):
    for nimg in (10, 20):
        put(tmp_path, nimg)
    account(tmp_path, {10: 5.0, 20: 4.0})
    put(tmp_path, 30)
    assert account(tmp_path, {30: 6.0}) == [30]
    assert [found["nimg"] for found in lines(tmp_path)] == [10, 20, 30]


def test_another_generator_under_the_same_number_is_measured_again(tmp_path):
    """A run that went back to a checkpoint and on with another number of workers."""
    put(tmp_path, 10)
    account(tmp_path, {10: 1.0})
    put(tmp_path, 10, weights="others")
    assert best(tmp_path, BENCH) is None
    account(tmp_path, {10: 7.0})
    assert [found["holdout"]["distance"] for found in lines(tmp_path)] == [1.0, 7.0]


def test_another_yardstick_measures_again_and_does_not_mix(tmp_path):
    other = SimpleNamespace(yardstick={"extractor_digest": "f", "samples": 9}, metric="distance")
    put(tmp_path, 10)
    put(tmp_path, 20)
    for bench, values in ((BENCH, {10: 1.0, 20: 2.0}), (other, {10: 2.0, 20: 1.0})):
        account(tmp_path, values, bench)
        assert best(tmp_path, bench).name == f"{min(values, key=values.get):09d}"
    assert len(lines(tmp_path)) == 4


def test_what_fails_costs_its_own_numbers_and_is_tried_by_the_next_start(tmp_path, capsys):
    workers = Workers({10: RuntimeError("out\nof memory"), 20: 2.0})
    watch = Watch(tmp_path, BENCH, workers)
    for nimg in (10, 20):
        put(tmp_path, nimg)
        watch.look()
        workers.answer()
    watch.finish()
    assert capsys.readouterr().out == "snapshot 000000010 was not measured: out of memory\n"
    assert workers.asked() == [10, 20]
    assert there(tmp_path) == [10, 20]
    assert account(tmp_path, {10: 1.0}) == [10]
    assert best(tmp_path, BENCH).name == "000000010"


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path):
    put(tmp_path, 10)
    whole = json.dumps(line(tmp_path / "snapshots/000000010", 1.0))
    (tmp_path / "evaluations.jsonl").write_text(whole + "\n" + whole[:20])
    assert len(lines(tmp_path)) == 1
    put(tmp_path, 20)
    account(tmp_path, {20: 2.0})
    assert [found["nimg"] for found in lines(tmp_path)] == [10, 20]


def test_the_best_is_chosen_when_what_was_left_is_measured(tmp_path, monkeypatch):
    for nimg in (10, 20):
        put(tmp_path, nimg)
    values = {10: 1.0, 20: 2.0}
    monkeypatch.setattr(snapshots, "examine", lambda exam: line(exam.snapshot, values[int(exam.snapshot.name)]))
    chosen = tmp_path / "candidate"
    chosen.mkdir()
    catch_up(tmp_path, BENCH)
    assert choose_best(tmp_path, BENCH, chosen) == 10
    assert (chosen / "generator.safetensors").read_text() == "weights 10"


def test_a_run_without_snapshots_has_no_best(tmp_path):
    with pytest.raises(InputError, match=r"evaluate\.pick is 'best' and run .* has no snapshot; allowed: last"):
        choose_best(tmp_path, BENCH, tmp_path)


def test_a_snapshot_that_was_being_deleted_is_none_and_goes(tmp_path):
    """A kill between the files of a folder."""
    for nimg in (10, 20, 30):
        put(tmp_path, nimg)
    (tmp_path / "snapshots/000000010/generator.safetensors").unlink()
    half = tmp_path / "snapshots/.000000005.gone"
    half.mkdir()
    assert account(tmp_path, {20: 1.0, 30: 2.0}) == [20, 30]
    assert best(tmp_path, BENCH).name == "000000020"
    assert not half.exists()


def test_one_that_cannot_be_read_costs_the_choice_nothing(tmp_path, monkeypatch, capsys):
    def examine(exam):
        if exam.snapshot.name == "000000010":
            raise InputError("the generator is damaged")
        return line(exam.snapshot, 2.0)

    for nimg in (10, 20):
        put(tmp_path, nimg)
    monkeypatch.setattr(snapshots, "examine", examine)
    catch_up(tmp_path, BENCH)
    assert "snapshot 000000010 was not measured: the generator is damaged" in capsys.readouterr().out
    assert best(tmp_path, BENCH).name == "000000020"


def test_a_damaged_line_is_said(tmp_path):
    (tmp_path / "evaluations.jsonl").write_text('{"nimg": 1}\n{"nim\n{}\n')
    with pytest.raises(InputError, match=r"evaluations\.jsonl is damaged"):
        lines(tmp_path)
