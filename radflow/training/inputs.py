"""The dataset that a training is given."""

from __future__ import annotations

from radflow.data.dataset.reading import Dataset
from radflow.data.sample import open_data
from radflow.errors import UserError


def open_training_dataset(data: str) -> Dataset:
    """Open the dataset with the splits that training needs; raises UserError where one is empty.

    They are mapped at once, so that a dataset that is replaced later does not matter.
    """
    dataset = open_data(data)
    for split, films in (("train", "training"), ("val", "validation"), ("test", "test")):
        if split not in dataset.manifest.splits or not dataset.manifest.splits[split].rows:
            raise UserError(f"data={data} holds no {films} films; run `preprocess` with fractions or lists for them")
        dataset.split(split)
    return dataset
