"""One shard: an uncompressed Arrow IPC file with one record batch, mapped into memory and read without decoding."""

from __future__ import annotations

import math
from collections.abc import Collection
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
    "side": "sides",
    "sex": "sexes",
    "split": "splits",
    "pathology": "pathologies",
}
"""Columns of text in a shard, and the attributes of `FilmTable` that hold them."""
OPTIONAL_TEXTS = ("side",)
"""Those of them that a file may lack, in which they are empty."""
AGE = "age"
FLAGS = ("labels", "known", "uncertain")
"""Attributes of `FilmTable` with a flag for each finding of an image."""
UNCERTAIN = "uncertain"
"""Column of what is not known and said to be possible, in shards that have such labels."""
UNKNOWN_AGE = -1
"""Age in memory where it is not known; on disk it is null."""

_NO_TEXTS = np.array([], dtype=np.str_)
_NO_AGES = np.array([], dtype=np.int16)
_NO_FLAGS = np.zeros((0, 0), dtype=np.bool_)


@dataclass(frozen=True)
class FilmTable:
    """One row an image, in columns of equal length: what is known of the images beside their pixels.

    Columns that are not given are filled with empty texts, unknown ages and known labels. Raises ValueError where a
    finding is present or absent and at once not known, or known and uncertain.
    """

    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[images, findings], whether a finding is known to be present"""
    known: NDArray[np.bool_] = field(default_factory=_NO_FLAGS.copy)
    """[images, findings], whether it is known if a finding is present; all of them unless given"""
    uncertain: NDArray[np.bool_] = field(default_factory=_NO_FLAGS.copy)
    """[images, findings], whether a finding that is not known is said to be possible; none unless given"""
    pathologies: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """What biopsy or follow-up found."""
    study_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Examination of the patient."""
    film_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Film that a crop was cut from; empty for whole films."""
    lesion_ids: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Lesion that a crop shows; empty for normal tissue and whole films."""
    sides: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Breast or other paired organ: L or R."""
    sexes: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """F or M"""
    ages: NDArray[np.int16] = field(default_factory=_NO_AGES.copy)
    """Patient's age in years, or `UNKNOWN_AGE`."""
    datasets: NDArray[np.str_] = field(default_factory=_NO_TEXTS.copy)
    """Dataset among several that are joined; empty in one by itself."""

    def __post_init__(self) -> None:
        """Fill in the columns that were not given."""
        for name in (*TEXTS.values(), "datasets"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.image_ids), ""))
        if not len(self.ages):
            object.__setattr__(self, "ages", np.full(len(self.image_ids), UNKNOWN_AGE, np.int16))
        if not self.known.size:
            object.__setattr__(self, "known", np.ones(self.labels.shape, bool))
        if not self.uncertain.size:
            object.__setattr__(self, "uncertain", np.zeros(self.labels.shape, bool))
        for name in ("known", "uncertain"):
            if (shape := getattr(self, name).shape) != self.labels.shape:
                raise ValueError(f"labels has shape {self.labels.shape}; expected {shape}, that of {name}")
        if (self.labels & ~self.known).any() or (self.uncertain & self.known).any():
            raise ValueError("a finding is present and not known, or known and uncertain")

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def shows_none(self) -> NDArray[np.bool_]:
        """Whether all findings of an image are known to be absent, [images]."""
        return np.asarray((self.known & ~self.labels).all(axis=1))

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
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(images[0].nbytes), len(table), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    columns = {"image": pixels, "labels": _flag_column(table.labels, None if table.known.all() else table.known)}
    if table.uncertain.any():
        columns[UNCERTAIN] = _flag_column(table.uncertain)
    batch = pa.record_batch({**columns, **identity_columns(table)})
    with atomic_file(path) as temporary, ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def identity_columns(table: FilmTable) -> dict[str, pa.Array]:
    """Everything but the labels as Arrow columns: texts, and ages of which the unknown ones are null."""
    columns = {
        name: pa.array(texts.tolist(), pa.string())
        for name, attribute in TEXTS.items()
        if (texts := getattr(table, attribute)).any() or name not in OPTIONAL_TEXTS
    }
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
        known, labels = _flags(batch.column("labels"))
        table = FilmTable(
            labels=labels & known,
            known=known,
            uncertain=_flags(batch.column(UNCERTAIN))[1] if UNCERTAIN in batch.schema.names else _NO_FLAGS,
            ages=ages_of(batch.column(AGE)),
            **{TEXTS[name]: _strings(batch.column(name)) for name in texts_of(batch.schema.names)},
        )
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({str(error).partition(chr(10))[0]}); make the dataset again") from error
    return table, films.reshape(len(batch), image_size, image_size)


def texts_of(columns: Collection[str]) -> list[str]:
    """The columns of text that a file with these columns must have."""
    return [name for name in TEXTS if name in columns or name not in OPTIONAL_TEXTS]


def _read_batch(path: Path) -> pa.RecordBatch:
    file = ipc.open_file(pa.memory_map(str(path)))
    if file.num_record_batches != 1:
        raise ValueError(f"{file.num_record_batches} record batches, expected one")
    batch = file.get_batch(0)
    batch.validate(full=True)
    return batch


def _check_columns(batch: pa.RecordBatch, image_size: int, findings: int) -> None:
    """Raise ValueError, or KeyError, unless the columns are those that `write_shard` writes."""
    expected = {**dict.fromkeys(texts_of(batch.schema.names), pa.string()), AGE: pa.int16()}
    expected |= {"image": pa.binary(image_size**2), "labels": pa.list_(pa.bool_(), findings)}
    if UNCERTAIN in batch.schema.names:
        expected[UNCERTAIN] = pa.list_(pa.bool_(), findings)
    for name, kind in expected.items():
        if batch.schema.field(name).type != kind:
            raise ValueError(f"column {name} holds {batch.schema.field(name).type}, expected {kind}")
    for name in batch.schema.names:
        if name != AGE and batch.column(name).null_count:
            raise ValueError(f"column {name} has empty values")


def _flag_column(flags: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> pa.Array:
    """Flags [images, findings] as a column of lists of bits, null where they are not known."""
    values, validity = (None if each is None else pa.py_buffer(np.packbits(each, bitorder="little"))
                        for each in (flags, known))  # fmt: skip
    bits = pa.BooleanArray.from_buffers(pa.bool_(), flags.size, [validity, values])
    return pa.FixedSizeListArray.from_arrays(bits, flags.shape[1])


def _flags(column: pa.FixedSizeListArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which flags of a column are not null, and their values, each [images, findings]."""
    shape = (len(column), column.type.list_size)
    # Not Array.to_numpy, which imports pandas and so takes longer than everything else here.
    validity, values = (None if buffer is None else np.frombuffer(buffer, np.uint8)
                        for buffer in column.flatten().buffers())  # fmt: skip
    known, flags = (np.ones(shape, bool) if bits is None else _unpacked(bits, shape) for bits in (validity, values))
    return known, flags


def _unpacked(bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=math.prod(shape), bitorder="little").view(np.bool_).reshape(shape)


def _strings(column: pa.Array) -> NDArray[np.str_]:
    texts = column.to_pylist()
    if (longest := max(map(len, texts), default=0)) > MAX_CELL:  # each text of the array takes as much room
        raise ValueError(f"a text of {longest:,} letters, the limit is {MAX_CELL}")
    return np.array(texts, dtype=np.str_)


def ages_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int16]:
    """Ages of a column that `identity_columns` made, the unknown ones as `UNKNOWN_AGE`."""
    ages = column.to_pylist()  # not fill_null, which imports pandas
    return np.array([UNKNOWN_AGE if age is None else age for age in ages], dtype=np.int16)
