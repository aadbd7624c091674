"""From a folder of films as released to a dataset on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from radflow.data.archives import RefusedMember, StoredFilm
from radflow.data.cbis_ddsm import LABEL_FILES, CbisDdsm
from radflow.data.chestxray14 import (
    LABEL_FILE_PATTERN,
    TEST_LIST,
    TRAIN_VAL_LIST,
    AbsentFilm,
    ChestXray14,
    LabelFile,
    differences_from_release,
    read_film_list,
)
from radflow.data.copies import on_disk
from radflow.data.dataset import Dataset, DatasetHeader, DatasetWriter, open_dataset, write_dataset
from radflow.data.decoding import decode_films, fetch_film
from radflow.data.findings import FINDINGS
from radflow.data.images import BadFilm
from radflow.data.lesion_crops import CropConfig
from radflow.data.mammograms import TUMOUR_FINDINGS, LeftOut, Mammogram, crop_table, crops_of, cut_films, lesions_of
from radflow.data.manifest import SplitRule
from radflow.data.mini_mias import CSV_LIST, RELEASED_LIST, MiniMias
from radflow.data.shards import FilmTable
from radflow.data.splits import (
    official_split,
    prove_no_lesion_crosses,
    prove_no_patient_crosses,
    random_split,
)
from radflow.errors import UserError
from radflow.files import sha256_file
from radflow.storage import S3Path, fingerprint, in_threads, locate
from radflow.terminal import say

Progress = Callable[[int, int, int], None]
"""Called with the films done, the films in all, and the films rejected so far."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """What to preprocess, and how."""

    source: str = "sample"
    """folder or s3://bucket/prefix with films and lists as released; of ChestX-ray14 as PNGs or images_*.tar.gz"""
    layout: Literal["auto", "chestxray14", "cbis_ddsm", "mini_mias"] = "auto"
    """the release that source holds; auto tells it by the label files"""
    out: str = "data/dataset"
    """folder for the dataset, where one that is already there is replaced; or s3://bucket/prefix, where none is yet"""
    image_size: int = 0
    """height and width of the stored images in pixels, 32 to 1024; 0 is 224 for chest films and 299 for mammograms"""
    split: Literal["official", "random"] = "official"
    """official: the release's own test part (mini-MIAS has none and is always random); random: by patient, by seed"""
    val_fraction: float = 0.1
    """share of patients for validation: of those outside the official test part, or of all (random)"""
    test_fraction: float = 0.2
    """share of all patients for the test part (random only)"""
    max_rejected: float = 0.01
    """largest share of images that may be missing or damaged before it is an error, 0 to 1"""
    workers: int = 0
    """processes that decode films (0 = all cores this process may use)"""
    seed: int = 0
    """seed of the split, and of the crops of mammograms"""
    name: str = "auto"
    """name of the data set in MLflow; auto is the layout's, or phantoms for films that `sample` has made"""
    crops: Annotated[CropConfig, Parameter(name="*")] = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        size_is_known = self.image_size == 0 or 32 <= self.image_size <= 1024
        _require(size_is_known, f"image_size={self.image_size}", "32 to 1024 pixels")
        _require(self.split in ("official", "random"), f"split={self.split}", "official or random")
        _require(0 < self.val_fraction < 1, f"val_fraction={self.val_fraction}", "more than 0 and less than 1")
        _require(0 < self.test_fraction < 1, f"test_fraction={self.test_fraction}", "more than 0 and less than 1")
        if self.split == "random":
            both = self.val_fraction + self.test_fraction
            _require(both < 1, f"val_fraction + test_fraction = {both:g}", "less than 1, to leave films to train")
        _require(0 <= self.max_rejected <= 1, f"max_rejected={self.max_rejected}", "0 to 1")
        _require(self.workers >= 0, f"workers={self.workers}", "0 (all cores) or more")


def resolve(config: PreprocessConfig) -> PreprocessConfig:
    """Settle what is auto: the layout of the source, the image size, and the rule of a release that is not divided.

    Raises `UserError` where the source is no folder of that layout.
    """
    layout = _recognise_layout(locate(config.source)) if config.layout == "auto" else config.layout
    _RELEASES[layout](config.source)
    return replace(
        config,
        layout=layout,
        image_size=config.image_size or (224 if layout == "chestxray14" else 299),
        split="random" if layout == "mini_mias" else config.split,
    )


def preprocess(config: PreprocessConfig, progress: Progress | None = None) -> Dataset:
    """Decode, resize and split the films of `config.source` into a dataset at `config.out`, and open it.

    The dataset is the same, byte for byte, whatever the number of workers and whether films come from folders or
    archives. Films that are missing or damaged are named in `rejected.csv`; so are films of the label file that are
    on neither official list, which belong to no split and are not counted as rejected. Of mammograms the dataset
    holds crops, around lesions and of normal tissue (`radflow.data.lesion_crops`). Raises `UserError`.

    When the process is interrupted or killed, the next one with the same settings and sources goes on with the shards
    that were whole, and makes the same bytes.
    """
    config = resolve(config)
    if config.layout == "chestxray14":
        _preprocess_chest_films(config, progress)
    else:
        _preprocess_mammograms(config, progress)
    return open_dataset(on_disk(locate(config.out)))


_RELEASES: dict[str, Callable[[str], ChestXray14 | CbisDdsm | MiniMias]] = {
    "chestxray14": ChestXray14.at,
    "cbis_ddsm": CbisDdsm.at,
    "mini_mias": MiniMias.at,
}


def _recognise_layout(folder: Path) -> Literal["chestxray14", "cbis_ddsm", "mini_mias"]:
    if any((folder / name).is_file() for name in LABEL_FILES):
        return "cbis_ddsm"
    if any(folder.glob(f"{LABEL_FILE_PATTERN}*")) or not folder.is_dir():
        return "chestxray14"  # which says best what is wrong with a source that is no folder
    if any((folder / name).is_file() for name in (RELEASED_LIST, CSV_LIST)):
        return "mini_mias"
    expected = f"{LABEL_FILE_PATTERN} (ChestX-ray14), {LABEL_FILES[0]} (CBIS-DDSM), {RELEASED_LIST} (mini-MIAS)"
    raise UserError(f"no label file in {folder}, expected one of {expected}; put the release's list beside the films")


def _preprocess_chest_films(config: PreprocessConfig, progress: Progress | None) -> None:
    release = ChestXray14.at(config.source)
    labels = release.read_labels()
    for difference in differences_from_release(labels):
        logging.getLogger(__name__).warning("%s", difference)
    films = _assign_splits(config, release, labels)
    prove_no_patient_crosses(films.table.patient_ids, films.table.splits)
    with write_dataset(config.out, _header(config, release), films.table, _origin(config)) as writer:
        _fill(writer, config, release, films, progress)


@dataclass(frozen=True)
class _AssignedFilms:
    """Every film that the label file or the lists name: those with a split, and the rest."""

    table: FilmTable
    unlisted: list[str]
    """in the label file, on neither list"""
    unlabelled: list[str]
    """on a list, not in the label file"""
    unit: str = "films"
    """what a row of the table is called in messages"""


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


def _origin(config: PreprocessConfig) -> str:
    """What decides the films beside header and table: another origin must not go on with what this one has made."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "workers")}
    return json.dumps([settings, fingerprint(locate(config.source))])


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
    if isinstance(release.folder, S3Path):
        stored = in_threads(fetch_film, stored)
    for name, outcome in decode_films(stored, config.image_size, config.workers):
        intake.settle(name, outcome)


def _stored_only(
    items: Iterable[StoredFilm | AbsentFilm | RefusedMember], writer: DatasetWriter, intake: _Intake
) -> Iterator[StoredFilm]:
    """Pass on the films that are there to decode, and settle the rest; those in whole shards are passed over."""
    for item in items:
        match item:
            case StoredFilm(name) | AbsentFilm(name) if not intake.awaits(name):
                continue
            case StoredFilm():
                yield item
            case AbsentFilm(name, reason):
                intake.settle(name, BadFilm(reason))
            case RefusedMember(name, reason):
                writer.note_refused(name, reason)


def _preprocess_mammograms(config: PreprocessConfig, progress: Progress | None) -> None:
    release = CbisDdsm.at(config.source) if config.layout == "cbis_ddsm" else MiniMias.at(config.source)
    listed: Sequence[Mammogram] = release.read_films()
    films, splits = _split_mammograms(config, listed)
    table = crop_table(films, splits, config.crops)
    prove_no_patient_crosses(table.patient_ids, table.splits)
    prove_no_lesion_crosses(lesions_of(table.image_ids), table.splits)
    header = _mammogram_header(config, release)
    with write_dataset(config.out, header, table, _origin(config)) as writer:
        _note_what_is_left_out(writer, listed, films)
        intake = _Intake(writer, _AssignedFilms(table, [], [], unit="crops"), config, progress)
        waiting = [film for film in films if any(intake.awaits(str(name)) for name in crops_of(film, config.crops))]
        for name, outcome in cut_films(waiting, config.crops, config.image_size, config.seed, config.workers):
            if intake.awaits(name):
                intake.settle(name, outcome)


def _split_mammograms(config: PreprocessConfig, films: Sequence[Mammogram]) -> tuple[list[Mammogram], NDArray[np.str_]]:
    """Return the films that have a split, and their splits.

    CBIS-DDSM is divided for masses and for calcifications apart, so 31 patients are in a train CSV and in a test CSV.
    The official test part is kept whole, and the train films of its patients are left out.
    """
    patients = np.array([film.patient_id for film in films])
    if config.split == "random":
        return list(films), random_split(patients, config.val_fraction, config.test_fraction, config.seed)
    in_test = np.array([film.in_test for film in films], dtype=bool)
    if in_test.all() or not in_test.any():
        missing = "train" if in_test.all() else "test"
        raise UserError(f"{config.source} has no CSV of the {missing} part; put it there, or use split=random")
    kept = in_test | ~np.isin(patients, patients[in_test])
    splits = official_split(patients[kept], in_test[kept], config.val_fraction, config.seed)
    return list(compress(films, kept)), splits


def _note_what_is_left_out(writer: DatasetWriter, listed: Sequence[Mammogram], films: Sequence[Mammogram]) -> None:
    """Name the lesions that the dataset cannot hold although their films are not damaged."""
    kept = {film.name for film in films}
    for film in listed:
        if film.name not in kept:
            lesions = [f"{film.name}:lesion{lesion.name}" for lesion in film.lesions]
            writer.note_unlisted(lesions, f"in the train part, but patient {film.patient_id} is in the test part too")
        unlocated = [f"{film.name}:lesion{lesion}" for lesion in film.unlocated]
        writer.note_unlisted(unlocated, "the release does not give its location")


def _mammogram_header(config: PreprocessConfig, release: CbisDdsm | MiniMias) -> DatasetHeader:
    test_fraction = config.test_fraction if config.split == "random" else None
    return DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=TUMOUR_FINDINGS,
        split_rule=SplitRule(config.split, config.seed, config.val_fraction, test_fraction),
        sources={path.name: sha256_file(path) for path in release.label_paths},
        crops=asdict(config.crops),
    )


class _Intake:
    """Settles films one by one: into the dataset or rejected, counted against `max_rejected`, with progress told."""

    def __init__(
        self, writer: DatasetWriter, films: _AssignedFilms, config: PreprocessConfig, progress: Progress | None
    ) -> None:
        self._writer = writer
        self._rows = {name: row for row, name in enumerate(films.table.image_ids.tolist())}
        self._total = len(self._rows) + len(films.unlabelled)
        self._unit = films.unit
        self._config = config
        self._progress = progress
        self._done = writer.settled
        self._examples: list[str] = []
        if self._done:
            say(f"going on after an interruption: {self._done:,} of {self._total:,} {self._unit} are done")

    def awaits(self, name: str) -> bool:
        """Whether the image is still to be settled: it is not in a shard that was whole before an interruption."""
        return name not in self._rows or not self._writer.is_settled(self._rows[name])

    def settle(self, name: str, outcome: NDArray[np.uint8] | BadFilm | LeftOut) -> None:
        """Put, leave out or reject one image; raises `UserError` when more than `max_rejected` of all are rejected."""
        if isinstance(outcome, LeftOut):
            self._writer.leave_out(self._rows[name], outcome.reason)
        elif not isinstance(outcome, BadFilm):
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
                f"at least {rejected:,} of {self._total:,} {self._unit} of {self._config.source} are missing or "
                f"damaged, more than max_rejected={self._config.max_rejected:g} allows ({'; '.join(self._examples)}); "
                "complete the films, or raise max_rejected"
            )


def _require(holds: bool, given: str, expected: str) -> None:
    if not holds:
        raise UserError(f"{given} is out of range: expected {expected}")
