"""The films that a study is carried out on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.manifest import MANIFEST_NAME
from radflow.data.dataset.reading import Dataset
from radflow.data.preprocess import plan_dataset, recognise, resolve
from radflow.data.sample import SAMPLE, mammogram_folder, open_data, study_folder
from radflow.errors import UserError
from radflow.studies.config import StudyConfig
from radflow.studies.experiment import Protocol
from radflow.transfer.classes import check_classes


@dataclass(frozen=True)
class FilmCounts:
    """How many films there are, and how many show what."""

    name: str
    films: int
    no_finding: int
    positives: dict[str, int]
    """Films with each finding."""

    @classmethod
    def of(cls, dataset: Dataset) -> FilmCounts:
        """Those of a dataset, in all its splits."""
        splits = dataset.manifest.splits.values()
        positives = {finding: sum(split.positives[finding] for split in splits) for finding in dataset.findings}
        films, healthy = sum(split.rows for split in splits), sum(split.no_finding for split in splits)
        return cls(dataset.name, films, healthy, positives)


def count_films(data: str) -> FilmCounts:
    """Count the films of a dataset, or by its label files those of a release that `preprocess` has yet to go through.

    Raises UserError where `data` is neither.
    """
    folder = Path(data)
    if data == SAMPLE or (folder / MANIFEST_NAME).exists() or recognise(folder) is None:
        return FilmCounts.of(open_data(data))
    release, planned = plan_dataset(resolve(PreprocessConfig(source=data)))
    table = planned.table
    positives = dict(zip(release.findings, table.labels.sum(axis=0).tolist(), strict=True))
    return FilmCounts(release.name, len(table.splits), int(table.shows_none.sum()), positives)


def datasets_of(config: StudyConfig, protocol: Protocol) -> dict[str, Dataset]:
    """The dataset of each entry point that the arms use; raises UserError where one cannot be opened."""
    chest, crops = config.data, config.mammograms
    datasets: dict[str, Dataset] = {}
    for entry_point in {arm.entry_point for arm in protocol.arms}:
        if entry_point == "transfer":
            datasets[entry_point] = open_data(str(mammogram_folder(crops)))
            check_classes(crops, datasets[entry_point])
        else:
            datasets[entry_point] = open_data(str(study_folder()) if chest == "auto" else chest)
            _check_splits(chest, datasets[entry_point])
    return datasets


def _check_splits(data: str, dataset: Dataset) -> None:
    """Find out before hours of training that there would be nothing to judge by."""
    for split in ("train", "val", "test"):
        if not len(dataset.split(split)):
            raise UserError(f"data={data} holds no {split} films; preprocess again with a fraction for them")
