"""One shard: an uncompressed Arrow IPC file with one record batch, mapped into memory and read without decoding."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from radflow.data.tables import MAX_CELL
from radflow.errors import UserError
from radflow.files import atomic_file

MAX_SHARD_ROWS = 4_096
MAX_SHARD_BYTES = 64 * 2**20

TEXTS = {
    "image_id": "image_ids",
    "patient_id": "patient_ids",
    "study_id": "study_ids",
    "film_id": "film_ids",
    "lesion_id": "lesion_ids",
    "view": "views",
    "sex": "sexes",
    "split": "splits",
    "pathology": "pathologies",
}
"""Columns of text in a shard, and the attributes of `FilmTable` that hold them."""
AGE = "age"
UNKNOWN_AGE = -1
"""Age in memory where it is not known; on disk it is null."""

_NO_TEXTS = np.array([], dtype=np.str_)
_NO_AGES = np.array([], dtype=np.int16)


@dataclass(frozen=True)
class FilmTable:
    """One row an image, in columns of equal length: what is known of the images beside their pixels.

    Columns that are not given are filled with empty texts and unknown ages.
    """

    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[images, findings]"""
    pathologies: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """What biopsy or follow-up found."""
    study_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Examination of the patient."""
    film_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Film that a crop was cut from; empty for whole films."""
    lesion_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Lesion that a crop shows; empty for normal tissue and whole films."""
    sexes: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """F or M"""
    ages: NDArray[np.int16] = field(default_factory=_NO_AGES.copy)
    """Patient's age in years, or `UNKNOWN_AGE`."""

    def __post_init__(self) -> None:
        """Fill in the columns that were not given."""
        for name in TEXTS.values():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.image_ids), ""))
        if not len(self.ages):
            object.__setattr__(self, "ages", np.full(len(self.image_ids), UNKNOWN_AGE, np.int16))

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> FilmTable:
        """Return the images at these rows, in their order."""
        return FilmTable(**{name: column[rows] for name, column in vars(self).items()})

    @staticmethod
    def concatenate(tables: list[FilmTable]) -> FilmTable:
        """Join tables, at least one, end to end."""
        names = [column.name for column in fields(FilmTable)]
        return FilmTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def rows_per_shard(image_size: int) -> int:
    """Films in a full shard: 64 MB of pixels or 4,096 films, whichever is less, and at least one."""
    return max(1, min(MAX_SHARD_ROWS, MAX_SHARD_BYTES // image_size**2))


def write_shard(path: Path, table: FilmTable, images: NDArray[np.uint8]) -> None:
    """Write films [n, H, W] and their table as one Arrow file, atomically."""
    films, findings = table.labels.shape
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(images[0].nbytes), films, [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    bits = pa.py_buffer(np.packbits(table.labels, bitorder="little"))
    labels = pa.FixedSizeListArray.from_arrays(
        pa.BooleanArray.from_buffers(pa.bool_(), table.labels.size, [None, bits]), findings
    )
    batch = pa.record_batch({"image": pixels, "labels": labels, **identity_columns(table)})
    with atomic_file(path) as temporary, ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def identity_columns(table: FilmTable) -> dict[str, pa.Array]:
    """Everything but the labels as Arrow columns: texts, and ages of which the unknown ones are null."""
    columns = {name: pa.array(getattr(table, attribute).tolist(), pa.string()) for name, attribute in TEXTS.items()}
    columns[AGE] = pa.array(table.ages, pa.int16(), mask=table.ages == UNKNOWN_AGE)
    return columns


def map_shard(path: Path, image_size: int, findings: int) -> tuple[FilmTable, NDArray[np.uint8]]:
    """Map a shard: its table in memory, and its films [n, H, W] as a read-only view of the file.

    Only the pages of the small columns are read, and each of their offsets is checked: Arrow itself would follow them
    out of the file. Raises `UserError` where the file is no such shard.
    """
    try:
        batch = _read_batch(path)
        _check_columns(batch, image_size, findings)
        films = np.frombuffer(batch.column("image").buffers()[1], np.uint8, len(batch) * image_size**2)
        # Not Array.to_numpy, which imports pandas and so takes longer than everything else here.
        bits = np.frombuffer(batch.column("labels").flatten().buffers()[1], np.uint8)
        labels = np.unpackbits(bits, count=len(batch) * findings, bitorder="little").view(np.bool_)
        table = FilmTable(
            labels=labels.reshape(len(batch), findings),
            ages=ages_of(batch.column(AGE)),
            **{attribute: _strings(batch.column(name)) for name, attribute in TEXTS.items()},
        )
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({str(error).partition(chr(10))[0]}); make the dataset again") from error
    return table, films.reshape(len(batch), image_size, image_size)


def _read_batch(path: Path) -> pa.RecordBatch:
    file = ipc.open_file(pa.memory_map(str(path)))
    if file.num_record_batches != 1:
        raise ValueError(f"{file.num_record_batches} record batches, expected one")
    batch = file.get_batch(0)
    batch.validate(full=True)
    return batch


def _check_columns(batch: pa.RecordBatch, image_size: int, findings: int) -> None:
    """Raise ValueError, or KeyError, unless the columns are those that `write_shard` writes."""
    expected = {**dict.fromkeys(TEXTS, pa.string()), AGE: pa.int16()}
    expected |= {"image": pa.binary(image_size**2), "labels": pa.list_(pa.bool_(), findings)}
    for name, kind in expected.items():
        if batch.schema.field(name).type != kind:
            raise ValueError(f"column {name} holds {batch.schema.field(name).type}, expected {kind}")
    for name in batch.schema.names:
        if name != AGE and batch.column(name).null_count:
            raise ValueError(f"column {name} has empty values")


def _strings(column: pa.Array) -> NDArray[np.str_]:
    texts = column.to_pylist()
    if (longest := max(map(len, texts), default=0)) > MAX_CELL:  # each text of the array takes as much room
        raise ValueError(f"a text of {longest:,} letters, the limit is {MAX_CELL}")
    return np.array(texts, dtype=np.str_)


def ages_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int16]:
    """Ages of a column that `identity_columns` made, the unknown ones as `UNKNOWN_AGE`."""
    ages = column.to_pylist()  # not fill_null, which imports pandas
    return np.array([UNKNOWN_AGE if age is None else age for age in ages], dtype=np.int16)
