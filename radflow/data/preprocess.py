"""From a folder of films as released to a dataset on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.config import PreprocessConfig, require
from radflow.data.crops.mammograms import (
    TUMOUR_FINDINGS,
    LeftOut,
    LesionRow,
    Mammogram,
    crop_table,
    crops_of,
    cut_films,
    left_out_lesions,
    lesion_rows,
    lesions_of,
)
from radflow.data.dataset.copies import on_disk
from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.splits import (
    official_split,
    prove_no_lesion_crosses,
    prove_no_patient_crosses,
    random_split,
)
from radflow.data.dataset.writing import DatasetHeader, DatasetWriter, write_dataset
from radflow.data.decoding import decode_films, fetch_film
from radflow.data.images.film import BadFilm
from radflow.data.readers.archives import RefusedMember, StoredFilm
from radflow.data.readers.boxes import BOXES_NAME, FindingBox, count_boxes, read_box_list
from radflow.data.readers.cbis_ddsm import LABEL_FILES, CbisDdsm
from radflow.data.readers.chestxray14 import (
    LABEL_FILE_PATTERN,
    AbsentFilm,
    ChestXray14,
    LabelFile,
    compare_with_release,
)
from radflow.data.readers.film_lists import AssignedFilms, assign_by_lists, official_lists, table_of
from radflow.data.readers.findings import FINDINGS
from radflow.data.readers.mini_mias import CSV_LIST, RELEASED_LIST, MiniMias
from radflow.data.readers.precut_ddsm import (
    NOTES,
    RECORDS_PATTERN,
    DamagedCrop,
    PrecutCrop,
    PrecutDdsm,
    find_records,
    precut_table,
    read_crops,
)
from radflow.errors import UserError
from radflow.files import sha256_file
from radflow.storage import S3Path, fingerprint, in_threads, locate
from radflow.terminal import say

LESIONS_NAME = "lesions.csv"

Progress = Callable[[int, int, int], None]
"""Called with the films done, the films in all, and the films rejected so far."""


def resolve(config: PreprocessConfig) -> PreprocessConfig:
    """Settle what is auto: the layout of the source, the image size, and the rule of a release that is not divided.

    Raises `UserError` where the source is no folder of that layout.
    """
    layout = _recognise_layout(locate(config.source)) if config.layout == "auto" else config.layout
    _RELEASES[layout](config.source)
    rules = _SPLIT_RULES[layout]
    require(config.split in rules, f"split={config.split} of {layout}", " or ".join(rules))
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
    on no list, which belong to no split and are not counted as rejected. Of mammograms the dataset holds crops, around
    lesions and of normal tissue (`radflow.data.crops.lesions`), and `lesions.csv` accounts for every lesion. Raises
    `UserError`.

    When the process is interrupted or killed, the next one with the same settings and sources goes on with the shards
    that were whole, and makes the same bytes.
    """
    config = resolve(config)
    if config.layout == "chestxray14":
        _preprocess_chest_films(config, progress)
    elif config.layout == "ddsm_precut":
        _preprocess_precut_crops(config, progress)
    else:
        _preprocess_mammograms(config, progress)
    return open_dataset(on_disk(locate(config.out)))


_RELEASES: dict[str, Callable[[str], ChestXray14 | CbisDdsm | MiniMias | PrecutDdsm]] = {
    "chestxray14": ChestXray14.at,
    "cbis_ddsm": CbisDdsm.at,
    "mini_mias": MiniMias.at,
    "ddsm_precut": PrecutDdsm.at,
}


_SPLIT_RULES = {
    "chestxray14": ("official", "random", "lists"),
    "cbis_ddsm": ("official", "random"),
    "mini_mias": ("official", "random"),
    "ddsm_precut": ("official",),  # by patient is out of reach where no patients are named
}


def _recognise_layout(folder: Path) -> Literal["chestxray14", "cbis_ddsm", "mini_mias", "ddsm_precut"]:
    if any((folder / name).is_file() for name in LABEL_FILES):
        return "cbis_ddsm"
    if any(folder.glob(f"{LABEL_FILE_PATTERN}*")) or not folder.is_dir():
        return "chestxray14"  # which says best what is wrong with a source that is no folder
    if any(MiniMias.is_list(folder / name) for name in (RELEASED_LIST, CSV_LIST)):
        return "mini_mias"
    if find_records(folder):
        return "ddsm_precut"
    expected = (
        f"{LABEL_FILE_PATTERN} (ChestX-ray14), {LABEL_FILES[0]} (CBIS-DDSM), {RELEASED_LIST} (mini-MIAS) or "
        f"{RECORDS_PATTERN} (pre-cut DDSM)"
    )
    tables = sorted(path.name for path in folder.glob("*.csv"))
    given = f"; its {', '.join(tables[:3])} has the columns of none" if tables else ""
    raise UserError(
        f"no label file in {folder}{given}, expected one of {expected}; put the release's list beside the films"
    )


def _preprocess_chest_films(config: PreprocessConfig, progress: Progress | None) -> None:
    release = ChestXray14.at(config.source)
    labels = release.read_labels()
    lists = official_lists(release) if config.split == "official" else config.lists.paths()
    films = _assign_splits(config, labels, lists)
    prove_no_patient_crosses(films.table.patient_ids, films.table.splits)
    box_list = release.box_list_path()
    boxes = read_box_list(box_list) if box_list is not None else []
    notes = (*compare_with_release(labels), *count_boxes(boxes, films.table.image_ids))
    header = _chest_header(config, release, lists, notes)
    with write_dataset(config.out, header, films.table, _origin(config)) as writer:
        _fill(writer, config, release, films, progress)
        _keep_boxes(writer, films, boxes)


def _assign_splits(config: PreprocessConfig, labels: LabelFile, lists: Mapping[str, Path]) -> AssignedFilms:
    if lists:
        return assign_by_lists(labels, lists, config.val_fraction, config.seed)
    splits = random_split(labels.patient_ids, config.val_fraction, config.test_fraction, config.seed)
    return AssignedFilms(table_of(labels, np.arange(len(labels)), splits))


def _keep_boxes(writer: DatasetWriter, films: AssignedFilms, boxes: Sequence[FindingBox]) -> None:
    """Store the boxes of the films that the dataset holds."""
    if boxes:
        kept = set(films.table.image_ids.tolist()) - writer.missing.keys()
        writer.add_table(BOXES_NAME, FindingBox._fields, [box for box in boxes if box.image_id in kept])


def _chest_header(
    config: PreprocessConfig, release: ChestXray14, lists: Mapping[str, Path], notes: tuple[str, ...]
) -> DatasetHeader:
    own = config.split == "lists"
    sources = {release.label_path.name: release.label_path}
    sources |= {f"{split}_list/{path.name}" if own else path.name: path for split, path in lists.items()}
    if (box_list := release.box_list_path()) is not None:
        sources[box_list.name] = box_list
    return DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=FINDINGS,
        split_rule=SplitRule(
            config.split,
            config.seed,
            None if "val" in lists else config.val_fraction,
            config.test_fraction if config.split == "random" else None,
        ),
        sources={name: sha256_file(path) for name, path in sources.items()},
        notes=notes,
    )


def _origin(config: PreprocessConfig) -> str:
    """What decides the films beside header and table: another origin must not go on with what this one has made."""
    without_effect = ("out", "workers", "max_rejected")
    settings = {name: value for name, value in asdict(config).items() if name not in without_effect}
    return json.dumps([settings, fingerprint(locate(config.source))])


def _fill(
    writer: DatasetWriter,
    config: PreprocessConfig,
    release: ChestXray14,
    films: AssignedFilms,
    progress: Progress | None,
) -> None:
    """Put every film of the table into the writer or reject it; stops as soon as too many are rejected."""
    intake = _Intake(writer, films, config, progress)
    writer.note_unlisted(films.unlisted, "on no list")
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
        left_out = left_out_lesions(listed, films)
        for lesion, reason in left_out.items():
            writer.note_unlisted([lesion], reason)
        intake = _Intake(writer, AssignedFilms(table, unit="crops"), config, progress)
        waiting = [film for film in films if any(intake.awaits(str(name)) for name in crops_of(film, config.crops))]
        for name, outcome in cut_films(waiting, config.crops, config.image_size, config.seed, config.workers):
            if intake.awaits(name):
                intake.settle(name, outcome)
        rows = lesion_rows(listed, left_out, table, writer.missing)
        writer.add_table(LESIONS_NAME, LesionRow._fields, rows)


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


def _mammogram_header(config: PreprocessConfig, release: CbisDdsm | MiniMias) -> DatasetHeader:
    test_fraction = config.test_fraction if config.split == "random" else None
    return DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=TUMOUR_FINDINGS,
        split_rule=SplitRule(config.split, config.seed, config.val_fraction, test_fraction),
        sources={path.name: sha256_file(path) for path in release.label_paths},
        crops=asdict(config.crops),
        unit="crops",
    )


def _preprocess_precut_crops(config: PreprocessConfig, progress: Progress | None) -> None:
    release = PrecutDdsm.at(config.source)
    listed = list(release.crops())
    crops = [crop for crop in listed if isinstance(crop, PrecutCrop)]
    damaged = [crop for crop in listed if isinstance(crop, DamagedCrop)]
    table = precut_table(crops, config.val_fraction, config.seed)
    header = DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=TUMOUR_FINDINGS,
        split_rule=SplitRule(config.split, config.seed, config.val_fraction),
        sources={path.name: sha256_file(path) for path in release.label_paths},
        unit="crops",
        notes=NOTES,
    )
    with write_dataset(config.out, header, table, _origin(config)) as writer:
        films = AssignedFilms(table, unlabelled=tuple(crop.name for crop in damaged), unit="crops")
        intake = _Intake(writer, films, config, progress)
        for crop in damaged:
            intake.settle(crop.name, BadFilm(crop.reason))
        waiting = [crop for crop in crops if intake.awaits(crop.name)]
        for name, outcome in read_crops(waiting, config.image_size, config.workers):
            intake.settle(name, outcome)


class _Intake:
    """Settles films one by one: into the dataset or rejected, counted against `max_rejected`, with progress told."""

    def __init__(
        self, writer: DatasetWriter, films: AssignedFilms, config: PreprocessConfig, progress: Progress | None
    ) -> None:
        self._writer = writer
        self._rows = {name: row for row, name in enumerate(films.table.image_ids.tolist())}
        self._total = len(self._rows) + len(films.unlabelled)
        self._unit = films.unit
        self._config = config
        self._progress = progress
        self._done = writer.settled
        self._examples = [f"{name}: {reason}" for name, reason in writer.missing.items()][:3]
        if self._done:
            say(f"going on after an interruption: {self._done:,} of {self._total:,} {self._unit} are done")
        if writer.rejected:
            self._stop_if_too_many()

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
