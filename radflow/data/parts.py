"""Images made by several machines, each of some units of a release, and kept in files until one process takes them.

A unit is an archive, a block of films, or all images of some patients. Which machine made it does not show in the
dataset: the process that writes it takes the units in their order, as if it had made all of them itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from radflow.data.decoding import Decoded, LeftOut, Outcome, StoredFilm, fetch_film
from radflow.data.images.film import BadFilm
from radflow.data.readers.archives import RefusedMember
from radflow.data.readers.base import Image, ReleasePlan, Unit
from radflow.errors import JobError
from radflow.files import atomic_file
from radflow.storage import in_threads

PATIENT_UNITS = 64
"""Units that a release is divided into by its patients, if its reader does not divide it."""
_ROWS = 64

_SCHEMA = pa.schema([("name", pa.string()), ("kind", pa.string()), ("reason", pa.string()), ("pixels", pa.binary())])
_FILM, _BAD, _LEFT_OUT, _REFUSED = "film", "bad", "left out", "refused"


def units_of(plan: ReleasePlan) -> Sequence[Unit]:
    """The units of a release, the same on every machine."""
    if plan.units is not None:
        return plan.units()
    patients = [zlib.crc32(patient.encode()) % PATIENT_UNITS for patient in plan.table.patient_ids.tolist()]
    names = plan.table.image_ids
    return [
        partial(_images_of, plan, frozenset(names[np.array(patients) == number].tolist()))
        for number in range(PATIENT_UNITS)
    ]


def _images_of(plan: ReleasePlan, names: frozenset[str]) -> Iterator[Image]:
    for image in plan.images(names.__contains__):
        name = image.name if isinstance(image, StoredFilm | RefusedMember) else image[0]
        if isinstance(image, RefusedMember) or name in names:
            yield image


def unit_file(folder: Path, number: int) -> Path:
    """The file of a unit."""
    return folder / f"unit-{number:05}.arrow"


def make_units(
    plan: ReleasePlan,
    numbers: Iterable[int],
    folder: Path,
    decode: Callable[[Iterable[StoredFilm]], Iterator[Decoded]],
    remote: bool,
) -> None:
    """Make the images of these units that are not there yet, each in a file of its own; `remote` films are fetched."""
    units = units_of(plan)
    for number in numbers:
        file = unit_file(folder, number)
        if not file.exists():
            with atomic_file(file) as unfinished, _UnitWriter.at(unfinished) as writer:
                stored = _stored_only(units[number](), writer)
                for name, outcome in decode(in_threads(fetch_film, stored) if remote else stored):
                    writer.put(name, outcome)


def _stored_only(images: Iterable[Image], writer: _UnitWriter) -> Iterator[StoredFilm]:
    for image in images:
        match image:
            case StoredFilm():
                yield image
            case RefusedMember(name, reason):
                writer.add(name, _REFUSED, reason)
            case name, outcome:
                writer.put(name, outcome)


class _UnitWriter:
    """Writes what has become of images."""

    def __init__(self, stream: pa.ipc.RecordBatchStreamWriter) -> None:
        self._stream = stream
        self._rows: list[tuple[str, str, str, bytes | None]] = []

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[_UnitWriter]:
        """Write to a file."""
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as stream:
            writer = cls(stream)
            yield writer
            writer.flush()

    def put(self, name: str, outcome: Outcome) -> None:
        """Add an image, or why there is none."""
        match outcome:
            case BadFilm():
                self.add(name, _BAD, str(outcome))
            case LeftOut(reason):
                self.add(name, _LEFT_OUT, reason)
            case _:
                self.add(name, _FILM, "", outcome.tobytes())

    def add(self, name: str, kind: str, reason: str, pixels: bytes | None = None) -> None:
        """Add a row."""
        self._rows.append((name, kind, reason, pixels))
        if len(self._rows) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are waiting."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(_SCHEMA)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        self._stream.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._rows = []


def read_units(plan: ReleasePlan, folder: Path, image_size: int) -> Iterator[Image]:
    """The images of all units, in the order of the release; and of a release with archives those that none had.

    Raises JobError where the file of a unit is missing or damaged.
    """
    found: set[str] = set()
    for number in range(len(units_of(plan))):
        for image in _read_unit(unit_file(folder, number), image_size):
            if isinstance(image, RefusedMember):
                yield image
            elif image[0] not in found:  # of several archives with a film of this name the first has it
                found.add(image[0])
                yield image
    if plan.units is not None:
        absent = (name for name in plan.table.image_ids.tolist() if name not in found)
        yield from ((name, BadFilm(plan.absent)) for name in absent)


def _read_unit(file: Path, image_size: int) -> Iterator[RefusedMember | tuple[str, Outcome]]:
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                for row in batch.to_pylist():
                    yield _image(row["name"], row["kind"], row["reason"], row["pixels"], image_size)
    except (OSError, pa.ArrowInvalid) as error:
        raise JobError(f"{file} is not whole ({error}); remove it, and give the same command again") from error


def _image(name: str, kind: str, reason: str, pixels: bytes, size: int) -> RefusedMember | tuple[str, Outcome]:
    if kind == _REFUSED:
        return RefusedMember(name, reason)
    if kind == _BAD:
        return name, BadFilm(reason)
    if kind == _LEFT_OUT:
        return name, LeftOut(reason)
    film: NDArray[np.uint8] = np.frombuffer(pixels, np.uint8).reshape(size, size)
    return name, film
