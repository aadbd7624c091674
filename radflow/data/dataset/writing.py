"""Writes a dataset: films in any order, even over several interrupted processes, to the same files."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.destination import Destination, destination_at
from radflow.data.dataset.manifest import (
    REJECTED_NAME,
    SPLITS,
    Manifest,
    ShardEntry,
    SplitCounts,
    SplitRule,
    TableEntry,
    write_manifest,
)
from radflow.data.dataset.shards import FilmTable, rows_per_shard, write_shard
from radflow.data.dataset.unfinished import Unfinished, WholeShard, unfinished_dataset
from radflow.data.tasks import OTHER
from radflow.errors import JobError, UserError
from radflow.files import sha256_file


@dataclass(frozen=True, kw_only=True)
class DatasetHeader:
    """What a dataset says of itself that its rows do not tell."""

    name: str
    image_size: int
    findings: tuple[str, ...]
    split_rule: SplitRule
    task: str = OTHER
    """What is classified, such as chest."""
    sources: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the label file and the split lists, by file name."""
    crops: dict[str, float] = field(default_factory=dict)
    """Settings by which crops were cut; empty where images are whole films, or were cut by others."""
    unit: str = "films"
    """What an image is: `films`, `crops` or `breasts`."""
    fit: str = "squash"
    """How films were made square: `pad`, `squash` or `breast`."""
    notes: tuple[str, ...] = ()
    """What a user of the dataset must know of its sources, in sentences."""


@contextmanager
def write_dataset(
    path: str | Path, header: DatasetHeader, table: FilmTable, origin: str = ""
) -> Iterator[DatasetWriter]:
    """Write a dataset: it stands at `path`, a folder or s3://bucket/prefix, when the block ends well, and not before.

    Within the block every row of `table` is `put`, `reject`ed or left out (`leave_out`) once, in any order, but for
    those that are settled already (`is_settled`): when a process was interrupted, the next one with the same header,
    table and `origin` of the films keeps the shards that were whole. The files depend on neither.

    A dataset already at `path` is replaced, but not in a bucket; raises `UserError` there, for something else, and
    where one may not write, and `JobError` where the disk fails or is full.
    """
    destination = destination_at(path)
    try:
        with (
            unfinished_dataset(destination.unfinished, dataset_digest(header, table, origin)) as unfinished,
            closing(destination),
        ):
            writer = DatasetWriter(unfinished, destination, header, table)
            yield writer
            writer.finish()
            destination.finish(unfinished.folder)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"the dataset {path} cannot be written: {error}") from error
    except OSError as error:
        raise JobError(f"the dataset {path} cannot be written: {error}") from error


def dataset_digest(header: DatasetHeader, table: FilmTable, origin: str) -> str:
    """SHA-256 of what a dataset is made from: an unfinished one of the same is resumed."""
    version = importlib.metadata.version("radflow")
    digest = hashlib.sha256(json.dumps([asdict(header), origin, version]).encode())
    for column in vars(table).values():
        digest.update(f"{column.dtype} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


class DatasetWriter:
    """Fills shards with films that arrive in any order; see `write_dataset`.

    Which row goes to which place of which shard is settled before the first film: a split's rows in their order, cut
    into equal shards. Rejected rows leave no gap, their shard is shorter. So the bytes depend on the table alone.
    """

    def __init__(
        self, unfinished: Unfinished, destination: Destination, header: DatasetHeader, table: FilmTable
    ) -> None:
        self._rejections: dict[int, str] = {}
        self._left_out: dict[int, str] = {}
        self._unfinished = unfinished
        self._destination = destination
        self._header = header
        self._table = table
        self._unlabelled: list[tuple[str, str]] = []
        self._notes: list[tuple[str, str]] = []
        self._unlisted = 0
        self._shards: list[ShardEntry] = []
        self._tables: list[TableEntry] = []
        self._filling: list[_FillingShard] = []
        self._place = np.full((len(table), 2), -1)
        for split in SPLITS:
            self._plan_split(split)
        if (self._place < 0).any():
            raise ValueError(f"splits are {sorted(set(table.splits.tolist()))}, expected only {SPLITS}")
        for shard in filter(self._belongs_here, unfinished.whole):
            self._filling[shard.number].waiting = 0
            self._rejections |= shard.rejections
            self._left_out |= shard.left_out
            self._take(shard)

    @property
    def settled(self) -> int:
        """Rows that are in whole shards, or rejected with them."""
        return sum(len(shard.rows) for shard in self._filling if not shard.waiting)

    def is_settled(self, row: int) -> bool:
        """Whether the row was put, rejected or left out, here or in a process before, and must not be put again."""
        shard, place = self._place[row].tolist()
        return self._filling[shard].is_settled(place)

    @property
    def rejected(self) -> int:
        """Films rejected so far."""
        return len(self._rejections) + len(self._unlabelled)

    def put(self, row: int, film: NDArray[np.uint8]) -> None:
        """Store the film of a row, uint8 [image_size, image_size]."""
        shard, place = self._place[row].tolist()
        self._filling[shard].put(place, film)
        self._write_if_complete(shard)

    def reject(self, row: int, reason: str) -> None:
        """Leave the film of a row out of the dataset, with the reason in `rejected.csv`."""
        shard, place = self._place[row].tolist()
        self._filling[shard].reject(place)
        self._rejections[row] = reason
        self._write_if_complete(shard)

    def leave_out(self, row: int, reason: str) -> None:
        """Leave a row out that cannot be made although nothing is damaged: in `rejected.csv`, counted as unlisted."""
        shard, place = self._place[row].tolist()
        self._filling[shard].reject(place)
        self._left_out[row] = reason
        self._write_if_complete(shard)

    def reject_unlabelled(self, image_id: str, reason: str) -> None:
        """Name a film in `rejected.csv`, and count it as rejected, that was wanted and has no row in the table."""
        self._unlabelled.append((image_id, reason))

    def note_unlisted(self, image_ids: Sequence[str], reason: str) -> None:
        """Name films in `rejected.csv` that belong to no split; they do not count as rejected."""
        self._unlisted += len(image_ids)
        self._notes.extend((image_id, reason) for image_id in image_ids)

    def note_refused(self, name: str, reason: str) -> None:
        """Name something in `rejected.csv` that was offered by the source and is no film of the table."""
        self._notes.append((name, reason))

    @property
    def missing(self) -> dict[str, str]:
        """The reason for each row of the table, by `image_id`, that was rejected or left out so far."""
        reasons = self._rejections | self._left_out
        return {str(self._table.image_ids[row]): reasons[row] for row in sorted(reasons)}

    def add_table(self, name: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
        """Store a table as the CSV file `name`, and its hash in the manifest."""
        path = self._unfinished.folder / name
        _write_csv(path, [columns, *rows])
        self._tables.append(TableEntry(name, len(rows), path.stat().st_size, sha256_file(path)))

    def finish(self) -> None:
        """Write `rejected.csv` and the manifest; raises ValueError where a row was neither put nor rejected."""
        waiting = sum(shard.waiting for shard in self._filling)
        if waiting:
            raise ValueError(f"{waiting} of {len(self._table)} rows were neither put nor rejected")
        rejected, left_out = (
            [(str(self._table.image_ids[row]), reasons[row]) for row in sorted(reasons)]
            for reasons in (self._rejections, self._left_out)
        )
        lines = [("image_id", "reason"), *rejected, *self._unlabelled, *left_out, *self._notes]
        _write_csv(self._unfinished.folder / REJECTED_NAME, lines)
        write_manifest(self._unfinished.folder, self._manifest())

    def _plan_split(self, split: str) -> None:
        rows = np.flatnonzero(self._table.splits == split)
        for number, start in enumerate(range(0, len(rows), rows_per_shard(self._header.image_size))):
            members = rows[start : start + rows_per_shard(self._header.image_size)]
            self._place[members, 0] = len(self._filling)
            self._place[members, 1] = np.arange(len(members))
            path = self._unfinished.folder / f"{split}-{number:05d}.arrow"
            self._filling.append(_FillingShard(path, split, members, self._header.image_size))

    def _belongs_here(self, shard: WholeShard) -> bool:
        """Whether a journal, of which any line may be damaged, says of a shard what it can be."""
        if not 0 <= shard.number < len(self._filling):
            return False
        rows, missing = self._filling[shard.number].rows.tolist(), shard.rejections.keys() | shard.left_out.keys()
        name, films = (shard.entry.file, shard.entry.rows) if shard.entry else (self._filling[shard.number].name, 0)
        return missing <= set(rows) and films == len(rows) - len(missing) and name == self._filling[shard.number].name

    def _write_if_complete(self, number: int) -> None:
        shard = self._filling[number]
        if shard.waiting:
            return
        rejections, left_out = (
            {row: reasons[row] for row in shard.rows.tolist() if row in reasons}
            for reasons in (self._rejections, self._left_out)
        )
        whole = WholeShard(number, shard.write(self._table), rejections, left_out)
        self._unfinished.record(whole)
        self._take(whole)

    def _take(self, shard: WholeShard) -> None:
        if shard.entry is not None:
            self._shards.append(shard.entry)
            self._destination.add(self._unfinished.folder / shard.entry.file, shard.entry.sha256)

    def _manifest(self) -> Manifest:
        kept = np.ones(len(self._table), bool)
        kept[[*self._rejections, *self._left_out]] = False
        counts = {split: count_rows(self._table.take(kept & (self._table.splits == split)), self._header.findings)
                  for split in SPLITS}  # fmt: skip
        return Manifest(
            name=self._header.name,
            image_size=self._header.image_size,
            findings=self._header.findings,
            splits=counts,
            split_rule=self._header.split_rule,
            rejected=self.rejected,
            unlisted=self._unlisted + len(self._left_out),
            sources=dict(sorted(self._header.sources.items())),
            shards=tuple(sorted(self._shards, key=lambda shard: (SPLITS.index(shard.split), shard.file))),
            crops=self._header.crops,
            unit=self._header.unit,
            fit=self._header.fit,
            task=self._header.task,
            tables=tuple(self._tables),
            notes=self._header.notes,
            radflow_version=importlib.metadata.version("radflow"),
        )


class _FillingShard:
    """A shard that waits for its films. They are kept in a file, so that any number of shards may wait."""

    def __init__(self, path: Path, split: str, rows: NDArray[np.integer], image_size: int) -> None:
        self.name = path.name
        self.waiting = len(rows)
        self._path = path
        self._pixels_path = path.with_suffix(".pixels")
        self._split = split
        self.rows = rows
        self._image_size = image_size
        self._outcome = np.zeros(len(rows), np.int8)  # 0 waiting, 1 there, -1 rejected

    def put(self, place: int, film: NDArray[np.uint8]) -> None:
        expected = (self._image_size, self._image_size)
        if film.shape != expected or film.dtype != np.uint8:
            raise ValueError(f"film is {film.dtype} {film.shape}, expected uint8 {expected}")
        self._settle(place, 1)
        with self._pixels_path.open("r+b" if self._pixels_path.exists() else "w+b") as file:
            file.seek(place * film.nbytes)
            file.write(film.tobytes())

    def reject(self, place: int) -> None:
        self._settle(place, -1)

    def is_settled(self, place: int) -> bool:
        return not self.waiting or bool(self._outcome[place])

    def write(self, table: FilmTable) -> ShardEntry | None:
        """Turn the complete shard into an Arrow file and let its pixels go; None where every film was rejected."""
        there = np.flatnonzero(self._outcome == 1)
        if not len(there):
            return None
        films = np.memmap(self._pixels_path, np.uint8, "r").reshape(-1, self._image_size, self._image_size)
        without_gaps = films if len(there) == len(films) else films[there]
        write_shard(self._path, table.take(self.rows[there]), without_gaps)
        self._pixels_path.unlink()
        return ShardEntry(self._path.name, self._split, len(there), self._path.stat().st_size, sha256_file(self._path))

    def _settle(self, place: int, outcome: int) -> None:
        if self._outcome[place] or not self.waiting:
            raise ValueError(f"row {self.rows[place]} was put or rejected twice")
        self._outcome[place] = outcome
        self.waiting -= 1


def _write_csv(path: Path, lines: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def count_rows(table: FilmTable, findings: tuple[str, ...]) -> SplitCounts:
    """Count the films and patients of a split, and the films that show each finding."""

    def of_each(flags: NDArray[np.bool_]) -> dict[str, int]:
        return dict(zip(findings, flags.sum(axis=0).tolist(), strict=True))

    all_known = bool(table.known.all())
    return SplitCounts(
        rows=len(table),
        patients=len(np.unique(table.patient_ids)),
        no_finding=int(table.shows_none.sum()),
        positives=of_each(table.labels),
        unknown={} if all_known else of_each(~table.known),
        uncertain={} if all_known else of_each(table.uncertain),
    )
