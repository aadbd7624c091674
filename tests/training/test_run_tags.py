"""The tags by which promotion finds comparable runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.training.job import run_tags


@pytest.mark.parametrize(("header", "task"), [({"task": "mammo"}, "mammo"), ({}, "other")])
def test_the_task_is_that_of_the_data_set(tmp_path: Path, header: dict[str, str], task: str) -> None:
    names = np.array(["a", "b", "c"])
    table = FilmTable(names, names, np.full(3, "PA"), np.array(["train", "val", "test"]), np.ones((3, 1), bool))
    made = DatasetHeader(name="m", image_size=32, findings=("F",), split_rule=SplitRule("random", 0, 0.1), **header)
    with write_dataset(tmp_path / "made", made, table) as writer:
        for row in range(3):
            writer.put(row, np.zeros((32, 32), np.uint8))
    dataset = open_dataset(tmp_path / "made")
    assert run_tags("vgg16", dataset) == {
        "radflow.arch": "vgg16",
        "radflow.task": task,
        "radflow.data_name": "m",
        "radflow.data_digest": dataset.digest,
    }
