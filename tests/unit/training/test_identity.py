"""What makes another run, and what a run is told before it starts: labels that are there."""

from dataclasses import replace

import numpy as np
import pytest

from components.config import InputError, load_params
from components.data.dataset import ImageSet
from components.training.identity import check_labels, run_key

TRAIN = replace(load_params("params.yaml").train, arch="stylegan2", labels=True)


@pytest.mark.parametrize(
    ("labels", "found"), [(None, "none"), ([0, 0, 0], "fire"), ([1, 1, 1], "water"), ([0, 1, 0], None)]
)
def test_labels_are_told_where_there_are_two(labels, found):
    data = ImageSet([np.zeros((3, 8, 8, 3), np.uint8)], "digest")
    if labels is not None:
        data.labels, data.label_names = np.array(labels, np.uint16), ("fire", "water")
    check_labels(replace(TRAIN, labels=False), data)
    if found is None:
        check_labels(TRAIN, data)
    else:
        with pytest.raises(InputError, match=f"train.labels is true, and the train images have {found}; allowed: two"):
            check_labels(TRAIN, data)


def test_a_train_param_or_other_data_is_another_run_and_a_higher_target_is_the_same():
    key = run_key(TRAIN, "digest")
    assert run_key(replace(TRAIN, total_kimg=TRAIN.total_kimg + 1), "digest") == key
    others = {run_key(replace(TRAIN, learning_rate=0.001), "digest"), run_key(TRAIN, "another")}
    assert len({key, *others}) == 3
