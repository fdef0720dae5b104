"""Files and folders appear whole or not at all."""

import json
import resource
import signal

import pytest

from components.config import InputError
from components.data.files import (
    append_json_line,
    read_json_lines,
    replacing,
    write_bytes,
    write_json,
    write_json_lines,
)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_replacing_swaps_the_whole_folder(tmp_path):
    target = tmp_path / "data" / "raw"
    with replacing(target) as fresh:
        assert fresh.parent == target.parent
        (fresh / "a").write_text("1")
        assert not target.exists()
    with replacing(target) as fresh:
        (fresh / "b").write_text("2")
        assert tree(target) == {"a": "1"}
    assert tree(tmp_path) == {"data/raw/b": "2"}


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "raw"
    with replacing(target) as fresh:
        (fresh / "a").write_text("1")

    def interrupted():
        with replacing(target) as fresh:
            (fresh / "b").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(tmp_path) == {"raw/a": "1"}


def test_what_a_killed_writer_left_does_not_survive(tmp_path):
    target = tmp_path / "raw"
    with replacing(target) as fresh:
        leftover = fresh
    leftover.mkdir()
    (leftover / "half").write_text("x")
    with replacing(target) as fresh:
        (fresh / "a").write_text("1")
    assert tree(tmp_path) == {"raw/a": "1"}


def test_write_bytes_makes_folders_and_leaves_no_temporary(tmp_path):
    write_bytes(tmp_path / "x" / "y.bin", b"old")
    write_bytes(tmp_path / "x" / "y.bin", b"new")
    assert tree(tmp_path) == {"x/y.bin": "new"}


def test_write_json_is_canonical_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [0.5, None]})
    assert path.read_text() == '{\n  "a": [\n    0.5,\n    null\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match=r"(?i)nan|JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == 1


def test_json_lines_hold_names_that_are_not_text(tmp_path):
    rows = [{"name": "a\nb\u2028"}, {"name": "\udcff.png"}]
    write_json_lines(tmp_path / "m.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()] == rows


def test_a_second_writer_in_the_same_folder_is_refused(tmp_path):
    with replacing(tmp_path / "one") as fresh:
        (fresh / "content").write_text("first")
        with pytest.raises(InputError, match="another process is writing in"), replacing(tmp_path / "two"):
            pass
    assert (tmp_path / "one" / "content").read_text() == "first"
    with replacing(tmp_path / "two"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_a_file_is_no_folder_and_leftovers_that_are_files_are_removed(tmp_path):
    (tmp_path / "data").write_text("mine")
    with (
        pytest.raises(InputError, match="data is a file; allowed: a folder, or nothing yet"),
        replacing(tmp_path / "data"),
    ):
        pass
    assert (tmp_path / "data").read_text() == "mine"
    for leftover in (".out.partial", ".out.old"):
        (tmp_path / leftover).write_text("left")
    with replacing(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


def test_an_appended_line_cuts_off_the_half_one_of_a_killed_writer(tmp_path):
    path = tmp_path / "a/lines.jsonl"
    for row in ({"a": 1}, {"b": 2}):
        append_json_line(path, row)
    with path.open("a") as file:
        file.write('{"half": ')
    append_json_line(path, {"c": 3})
    assert read_json_lines(path) == [{"a": 1}, {"b": 2}, {"c": 3}]
    path.write_text('{"half": ')
    append_json_line(path, {"d": 4})
    assert path.read_text() == '{"d": 4}\n'


def test_a_line_that_does_not_fit_leaves_no_half(tmp_path):
    """A file that may not grow any further takes half a line and then refuses, as a full disk does."""
    path = tmp_path / "lines.jsonl"
    append_json_line(path, {"a": 1})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 4, hard))
    try:
        with pytest.raises(OSError, match=r"No space left|too large"):
            append_json_line(path, {"a": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
