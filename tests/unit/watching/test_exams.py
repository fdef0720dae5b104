"""components/watching/exams.py: which distance decides, and since when it has not become better."""

import json

import pytest

from components.config.results import METRICS
from components.evaluation.features import metric_name
from components.watching.exams import exams


class Extractor:
    def __init__(self, name, published):
        self.name, self.published = name, published


def write(run, *lines):
    run.mkdir(exist_ok=True)
    (run / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("extractor", [Extractor("random_conv", False), Extractor("inception", True)])
@pytest.mark.parametrize("metric", METRICS)
def test_the_deciding_distance_is_the_one_that_evaluation_names_so(tmp_path, metric, extractor):
    names = [*(metric_name(kind, extractor) for kind in (*METRICS, "precision")), "frechet_alpha"]
    for order in (names, names[::-1]):
        write(tmp_path, {"kimg": 1.0, "yardstick": {}, "holdout": dict.fromkeys(order, 1.0)})
        (exam,) = exams(tmp_path, metric)
        assert exam.name == metric_name(metric, extractor)


def test_worse_in_a_row_counts_from_the_best(tmp_path):
    values = [5.0, 4.0, 4.5, 4.0, 6.0, 3.0, 3.5]
    write(tmp_path, *({"kimg": 1.0, "yardstick": 1, "holdout": {"kid": value}} for value in values))
    assert [exam.worse_in_a_row for exam in exams(tmp_path, "kernel")] == [0, 0, 1, 2, 3, 0, 1]


def test_only_what_the_last_yardstick_measured_is_compared(tmp_path):
    numbers = [(1, 0.1), (2, 9.0), (2, 8.0)]
    write(tmp_path, *({"kimg": 1.0, "yardstick": stick, "holdout": {"kid": value}} for stick, value in numbers))
    found = exams(tmp_path, "kernel")
    assert [(exam.line, exam.value, exam.worse_in_a_row) for exam in found] == [(1, 9.0, 0), (2, 8.0, 0)]


def test_nothing_measured_is_nothing(tmp_path):
    assert exams(tmp_path, "kernel") == []
