"""What a person sees of a run that trains: each tick once, also over several starts."""

import json

from components.training.progress import following


def tick(nimg):
    line = {"nimg": nimg, "kimg": nimg / 1000, "resolution": 8, "alpha": 1.0, "augment_p": 0.0, "seconds": nimg / 50}
    return line | dict.fromkeys(("loss_g", "loss_d", "sign_real", "sign_fake", "images_per_s", "memory_gib"), 1.0)


def write(path, *lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_a_run_that_goes_on_shows_what_is_new(tmp_path, capsys):
    """What an earlier start showed is not said again, but for the ticks that are made anew."""
    metrics, starts = tmp_path / "metrics.jsonl", tmp_path / "starts.jsonl"
    before = {"nimg": 0, "workers": 1, "refused": []}
    write(metrics, tick(100), tick(200), tick(300))
    write(starts, before)
    calls = []
    with following(tmp_path, 1.0, lambda: calls.append("tick"), last=lambda: calls.append("last")):
        write(metrics, tick(100), tick(200), tick(300), tick(400))
        write(starts, before, {"nimg": 200, "workers": 2, "refused": ["checkpoint 300 refused: damaged"]})
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["checkpoint 300 refused: damaged", "workers: 2, from image 200 on"]
    assert [line.split("  ")[0] for line in said[2:]] == ["kimg 0.3/1", "kimg 0.4/1"]
    assert calls == ["tick", "last", "tick"]


def test_a_run_that_has_ended_shows_nothing(tmp_path, capsys):
    write(tmp_path / "metrics.jsonl", tick(100))
    write(tmp_path / "starts.jsonl", {"nimg": 0, "workers": 1, "refused": []})
    with following(tmp_path, 0.1, last=lambda: None):
        pass
    assert capsys.readouterr().out == ""
