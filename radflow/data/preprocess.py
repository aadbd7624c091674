"""From a folder of ChestX-ray14 to a dataset on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.archives import RefusedMember, StoredFilm
from radflow.data.chestxray14 import (
    TEST_LIST,
    TRAIN_VAL_LIST,
    AbsentFilm,
    ChestXray14,
    LabelFile,
    differences_from_release,
    read_film_list,
)
from radflow.data.dataset import Dataset, DatasetHeader, DatasetWriter, open_dataset, write_dataset
from radflow.data.decoding import decode_films
from radflow.data.findings import FINDINGS
from radflow.data.images import BadFilm
from radflow.data.manifest import SplitRule
from radflow.data.shards import FilmTable
from radflow.data.splits import official_split, prove_no_patient_crosses, random_split
from radflow.errors import UserError
from radflow.files import sha256_file

Progress = Callable[[int, int, int], None]
"""Called with the films done, the films in all, and the films rejected so far."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """What to preprocess, and how."""

    source: str = "sample"
    """folder with Data_Entry_2017*.csv, the split lists, and the films as PNGs or images_*.tar.gz"""
    out: str = "data/dataset"
    """folder for the dataset; a dataset that is already there is replaced"""
    image_size: int = 224
    """height and width of the stored films in pixels, 32 to 1024"""
    split: Literal["official", "random"] = "official"
    """official: train_val_list.txt and test_list.txt; random: by patient, with the seed"""
    val_fraction: float = 0.1
    """share of patients for validation: of those in train_val_list (official), or of all (random)"""
    test_fraction: float = 0.2
    """share of all patients for the test part (random only)"""
    max_rejected: float = 0.01
    """largest share of films that may be missing or damaged before it is an error, 0 to 1"""
    workers: int = 0
    """processes that decode films (0 = all cores this process may use)"""
    seed: int = 0
    """seed of the split"""
    name: str = "auto"
    """name of the data set in MLflow; auto is chestxray14, or phantoms for films that `sample` has made"""

    def __post_init__(self) -> None:
        _require(32 <= self.image_size <= 1024, f"image_size={self.image_size}", "32 to 1024 pixels")
        _require(self.split in ("official", "random"), f"split={self.split}", "official or random")
        _require(0 < self.val_fraction < 1, f"val_fraction={self.val_fraction}", "more than 0 and less than 1")
        _require(0 < self.test_fraction < 1, f"test_fraction={self.test_fraction}", "more than 0 and less than 1")
        if self.split == "random":
            both = self.val_fraction + self.test_fraction
            _require(both < 1, f"val_fraction + test_fraction = {both:g}", "less than 1, to leave films to train")
        _require(0 <= self.max_rejected <= 1, f"max_rejected={self.max_rejected}", "0 to 1")
        _require(self.workers >= 0, f"workers={self.workers}", "0 (all cores) or more")


def preprocess(config: PreprocessConfig, progress: Progress | None = None) -> Dataset:
    """Decode, resize and split the films of `config.source` into a dataset at `config.out`, and open it.

    The dataset is the same, byte for byte, whatever the number of workers and whether films come from folders or
    archives. Films that are missing or damaged are named in `rejected.csv`; so are films of the label file that are
    on neither official list, which belong to no split and are not counted as rejected. Raises `UserError`.
    """
    release = ChestXray14.at(config.source)
    labels = release.read_labels()
    for difference in differences_from_release(labels):
        logging.getLogger(__name__).warning("%s", difference)
    films = _assign_splits(config, release, labels)
    prove_no_patient_crosses(films.table.patient_ids, films.table.splits)
    with write_dataset(config.out, _header(config, release), films.table) as writer:
        _fill(writer, config, release, films, progress)
    return open_dataset(config.out)


@dataclass(frozen=True)
class _AssignedFilms:
    """Every film that the label file or the lists name: those with a split, and the rest."""

    table: FilmTable
    unlisted: list[str]
    """in the label file, on neither list"""
    unlabelled: list[str]
    """on a list, not in the label file"""


def _assign_splits(config: PreprocessConfig, release: ChestXray14, labels: LabelFile) -> _AssignedFilms:
    if config.split == "random":
        splits = random_split(labels.patient_ids, config.val_fraction, config.test_fraction, config.seed)
        return _AssignedFilms(_table(labels, np.arange(len(labels)), splits), [], [])
    train_val, test = (read_film_list(release.list_path(name)) for name in (TRAIN_VAL_LIST, TEST_LIST))
    both = sorted(set(train_val) & set(test))
    if both:
        lists = f"{TRAIN_VAL_LIST} and {TEST_LIST}"
        raise UserError(f"{len(both)} films are in both {lists}, {both[0]} is the first; mend the lists")
    listed = np.isin(labels.image_ids, train_val + test)
    in_test = np.isin(labels.image_ids[listed], test)
    if in_test.all() or not in_test.any():
        empty = TRAIN_VAL_LIST if in_test.all() else TEST_LIST
        raise UserError(f"{empty} names no film of {labels.path.name}; give the lists of this release, or split=random")
    splits = official_split(labels.patient_ids[listed], in_test, config.val_fraction, config.seed)
    known = set(labels.image_ids.tolist())
    return _AssignedFilms(
        table=_table(labels, np.flatnonzero(listed), splits),
        unlisted=labels.image_ids[~listed].tolist(),
        unlabelled=[name for name in train_val + test if name not in known],
    )


def _table(labels: LabelFile, rows: NDArray[np.integer], splits: NDArray[np.str_]) -> FilmTable:
    return FilmTable(labels.image_ids[rows], labels.patient_ids[rows], labels.views[rows], splits, labels.labels[rows])


def _header(config: PreprocessConfig, release: ChestXray14) -> DatasetHeader:
    official = config.split == "official"
    files = [release.label_path, *(release.list_path(name) for name in (TRAIN_VAL_LIST, TEST_LIST) if official)]
    rule = SplitRule(config.split, config.seed, config.val_fraction, None if official else config.test_fraction)
    return DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=FINDINGS,
        split_rule=rule,
        sources={file.name: sha256_file(file) for file in files},
    )


def _fill(
    writer: DatasetWriter,
    config: PreprocessConfig,
    release: ChestXray14,
    films: _AssignedFilms,
    progress: Progress | None,
) -> None:
    """Put every film of the table into the writer or reject it; stops as soon as too many are rejected."""
    intake = _Intake(writer, films, config, progress)
    writer.note_unlisted(films.unlisted, f"on neither {TRAIN_VAL_LIST} nor {TEST_LIST}")
    for name in films.unlabelled:
        intake.settle(name, BadFilm(f"no row in {release.label_path.name}"))
    stored = _stored_only(release.films(films.table.image_ids.tolist()), writer, intake)
    for name, outcome in decode_films(stored, config.image_size, config.workers):
        intake.settle(name, outcome)


def _stored_only(
    items: Iterable[StoredFilm | AbsentFilm | RefusedMember], writer: DatasetWriter, intake: _Intake
) -> Iterator[StoredFilm]:
    """Pass on the films that are there to decode, and settle the rest."""
    for item in items:
        match item:
            case StoredFilm():
                yield item
            case AbsentFilm(name, reason):
                intake.settle(name, BadFilm(reason))
            case RefusedMember(name, reason):
                writer.note_refused(name, reason)


class _Intake:
    """Settles films one by one: into the dataset or rejected, counted against `max_rejected`, with progress told."""

    def __init__(
        self, writer: DatasetWriter, films: _AssignedFilms, config: PreprocessConfig, progress: Progress | None
    ) -> None:
        self._writer = writer
        self._rows = {name: row for row, name in enumerate(films.table.image_ids.tolist())}
        self._total = len(self._rows) + len(films.unlabelled)
        self._config = config
        self._progress = progress
        self._done = 0
        self._examples: list[str] = []

    def settle(self, name: str, outcome: NDArray[np.uint8] | BadFilm) -> None:
        """Put or reject one film; raises `UserError` when more than `max_rejected` of all films are rejected."""
        if not isinstance(outcome, BadFilm):
            self._writer.put(self._rows[name], outcome)
        elif name in self._rows:
            self._writer.reject(self._rows[name], str(outcome))
        else:
            self._writer.reject_unlabelled(name, str(outcome))
        if isinstance(outcome, BadFilm):
            self._examples = [*self._examples, f"{name}: {outcome}"][:3]
            self._stop_if_too_many()
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, self._writer.rejected)

    def _stop_if_too_many(self) -> None:
        rejected = self._writer.rejected
        if rejected > self._config.max_rejected * self._total or rejected == self._total:
            raise UserError(
                f"at least {rejected:,} of {self._total:,} films of {self._config.source} are missing or damaged, more "
                f"than max_rejected={self._config.max_rejected:g} allows ({'; '.join(self._examples)}); "
                "complete the films, or raise max_rejected"
            )


def _require(holds: bool, given: str, expected: str) -> None:
    if not holds:
        raise UserError(f"{given} is out of range: expected {expected}")
