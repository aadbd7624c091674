"""A folder of images as released becomes a dataset on disk, by way of the reader that recognises the folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from radflow.data.config import PreprocessConfig, require
from radflow.data.crops.mammograms import LesionRow
from radflow.data.dataset.copies import on_disk
from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.splits import prove_no_lesion_crosses, prove_no_patient_crosses
from radflow.data.dataset.writing import DatasetHeader, DatasetWriter, dataset_digest, write_dataset
from radflow.data.decoding import LeftOut, Outcome, StoredFilm, decode_films, fetch_film
from radflow.data.findings import check_names
from radflow.data.images.film import BadFilm
from radflow.data.parts import read_units
from radflow.data.readers import READERS
from radflow.data.readers.archives import RefusedMember
from radflow.data.readers.base import Reader, ReleasePlan
from radflow.data.readers.boxes import BOXES_NAME, FindingBox, count_boxes
from radflow.data.tasks import BREAST
from radflow.errors import UserError
from radflow.files import sha256_file
from radflow.storage import Location, S3Path, fingerprint, in_threads, locate
from radflow.terminal import say

LESIONS_NAME = "lesions.csv"

Progress = Callable[[int, int, int], None]
"""Called with the films done, the films in all, and the films rejected so far."""


def resolve(config: PreprocessConfig) -> PreprocessConfig:
    """Settle what is auto: the source's layout, its unit, fit, size, task, and the rule of a release without parts.

    Raises `UserError` where the source is not a folder of that layout, or what is given does not suit it.
    """
    reader = _reader_of(config)
    reader.at(config.source)
    rules, split = reader.split_rules, config.split
    if split == "official" and "official" not in rules:
        split = "random"
    require(split in rules, f"split={split} of {reader.layout}", " or ".join(rules))
    unit, fit, size = config.unit, config.fit, config.image_size or reader.image_size
    if unit == "auto":
        unit = reader.units[0]
    require(unit in reader.units, f"unit={unit} of {reader.layout}", " or ".join(reader.units))
    if unit == "films" and fit == "auto":
        fit = reader.fit
    require(unit == "films" or fit == "auto", f"fit={fit} of {unit}, which are square by themselves", "auto")
    task = config.task
    if task == "auto":
        task = BREAST if unit == "breasts" else reader.task
    return replace(config, layout=reader.layout, unit=unit, fit=fit, image_size=size, split=split, task=task)


def recognise(folder: Location) -> type[Reader] | None:
    """Find the reader of the release that a folder holds, by its label files; None where it is no release."""
    return next((reader for reader in READERS if reader.recognises(folder)), None)


def plan_dataset(config: PreprocessConfig) -> tuple[Reader, ReleasePlan]:
    """Read the label files and give every image to a split; no image is opened. `config` is resolved.

    Raises `UserError` where they are not as released, or a patient would be in two splits.
    """
    release = _reader_of(config).at(config.source)
    plan = release.plan(config.request)
    check_names(plan.findings or release.findings)
    prove_no_patient_crosses(plan.table.patient_ids, plan.table.splits)
    prove_no_lesion_crosses(plan.table.lesion_ids, plan.table.splits)
    return release, plan


def preprocess(config: PreprocessConfig, progress: Progress | None = None, units: Path | None = None) -> Dataset:
    """Decode, resize and split the films of `config.source` into a dataset at `config.out`, and open it.

    The dataset is the same, byte for byte, whatever the number of workers and whether films come from folders or
    archives. Films that are missing or damaged are named in `rejected.csv`; so are those that are in no split, or of
    which no finding is known, which are not counted as rejected. Of mammograms the dataset holds crops, around
    lesions and of normal tissue (`radflow.data.crops.lesions`), and `lesions.csv` accounts for every lesion. Raises
    `UserError`.

    With a folder of `units` their images are taken from there (`radflow.data.parts`).

    When the process is interrupted or killed, the next one with the same settings and sources keeps the shards
    that were whole, and makes the same bytes.
    """
    config = resolve(config)
    release, plan = plan_dataset(config)
    if units is not None:
        plan = replace(plan, images=lambda _: read_units(plan, units, config.image_size))
    with write_dataset(config.out, _header(config, release, plan), plan.table, _origin(config)) as writer:
        _fill(writer, config, release, plan, progress)
        _add_tables(writer, plan)
    return open_dataset(on_disk(locate(config.out)))


def digest_of(config: PreprocessConfig, release: Reader, plan: ReleasePlan) -> str:
    """SHA-256 of all that decides the dataset; where it differs, another one would be made."""
    return dataset_digest(_header(config, release, plan), plan.table, _origin(config))


def _reader_of(config: PreprocessConfig) -> type[Reader]:
    if config.layout != "auto":
        return next(reader for reader in READERS if reader.layout == config.layout)
    folder = locate(config.source)
    if not folder.is_dir():
        raise UserError(f"source {folder} is not a folder; give the one with the release's label file and the films")
    if reader := recognise(folder):
        return reader
    *others, last = (f"{reader.looks_for} ({reader.title})" for reader in READERS)
    tables = sorted(path.name for path in folder.glob("*.csv"))
    given = f"; its {', '.join(tables[:3])} has the columns of none" if tables else ""
    raise UserError(
        f"no label file in {folder}{given}, expected one of {', '.join(others)} or {last}; "
        "put the release's list beside the films"
    )


def _header(config: PreprocessConfig, release: Reader, plan: ReleasePlan) -> DatasetHeader:
    return DatasetHeader(
        name=release.name if config.name == "auto" else config.name,
        image_size=config.image_size,
        findings=plan.findings or release.findings,
        split_rule=SplitRule(
            config.split,
            config.seed,
            None if config.lists.val_list else config.val_fraction,
            config.test_fraction if config.split == "random" else None,
        ),
        task=config.task,
        sources={name: sha256_file(path) for name, path in plan.sources.items()},
        crops={} if plan.crops is None else asdict(plan.crops),
        unit=config.unit,
        fit=config.makes_square_by,
        notes=(*plan.notes, *count_boxes(plan.boxes, plan.table.image_ids)),
    )


def _origin(config: PreprocessConfig) -> str:
    """What decides the films beside header and table: another origin must not resume what this one has made."""
    without_effect = ("out", "workers", "max_rejected", "hosts", "ssh_agent", "interface")
    settings = {name: value for name, value in asdict(config).items() if name not in without_effect}
    return json.dumps([settings, fingerprint(locate(config.source))])


def _fill(
    writer: DatasetWriter, config: PreprocessConfig, release: Reader, plan: ReleasePlan, progress: Progress | None
) -> None:
    """Put every image of the plan into the writer, or say why not; stops as soon as too many are rejected."""
    for name, reason in plan.unlisted.items():
        writer.note_unlisted([name], reason)
    intake = _Intake(writer, config, plan, progress)
    for name, reason in plan.unlabelled.items():
        intake.settle(name, BadFilm(reason))
    table = plan.table
    for name in table.image_ids[~(table.known | table.uncertain).any(axis=1)].tolist():
        if intake.awaits(name):
            intake.settle(name, LeftOut("the release does not say whether it shows any of the findings"))
    stored = _stored_only(plan, writer, intake)
    if isinstance(release.folder, S3Path):
        stored = in_threads(fetch_film, stored)
    for name, outcome in decode_films(stored, config.image_size, config.makes_square_by, config.workers):
        intake.settle(name, outcome)


def _stored_only(plan: ReleasePlan, writer: DatasetWriter, intake: _Intake) -> Iterator[StoredFilm]:
    """Pass on the films that are there to decode, and settle the rest; those in whole shards are passed over."""
    for image in plan.images(intake.awaits):
        match image:
            case RefusedMember(name, reason):
                writer.note_refused(name, reason)
            case StoredFilm(name):
                if intake.awaits(name):
                    yield image
            case name, outcome:
                if intake.awaits(name):
                    intake.settle(name, outcome)


def _add_tables(writer: DatasetWriter, plan: ReleasePlan) -> None:
    """Store the boxes of the films that the dataset holds, and the account of lesions."""
    if plan.boxes:
        kept = set(plan.table.image_ids.tolist()) - writer.missing.keys()
        writer.add_table(BOXES_NAME, FindingBox._fields, [box for box in plan.boxes if box.image_id in kept])
    if plan.lesions is not None:
        writer.add_table(LESIONS_NAME, LesionRow._fields, plan.lesions(writer.missing))


class _Intake:
    """Settles images one by one: into the dataset or rejected, counted against `max_rejected`, with progress told."""

    def __init__(
        self, writer: DatasetWriter, config: PreprocessConfig, plan: ReleasePlan, progress: Progress | None
    ) -> None:
        self._writer = writer
        self._rows = {name: row for row, name in enumerate(plan.table.image_ids.tolist())}
        self._total = len(self._rows) + len(plan.unlabelled)
        self._unit = config.unit
        self._config = config
        self._progress = progress
        self._done = writer.settled
        self._examples = [f"{name}: {reason}" for name, reason in writer.missing.items()][:3]
        if self._done:
            say(f"resuming after an interruption: {self._done:,} of {self._total:,} {self._unit} are done")
        if writer.rejected:
            self._stop_if_too_many()

    def awaits(self, name: str) -> bool:
        """Whether the image is still to be settled, in this process or in one before that was interrupted."""
        return name not in self._rows or not self._writer.is_settled(self._rows[name])

    def settle(self, name: str, outcome: Outcome) -> None:
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
