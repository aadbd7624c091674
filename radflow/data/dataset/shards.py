"""One shard: an uncompressed Arrow IPC file with one record batch, mapped into memory and read without decoding."""

from __future__ import annotations

from dataclasses import dataclass, field
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

_NOTHING = np.array([], dtype=np.str_)


@dataclass(frozen=True)
class FilmTable:
    """One row a film, in columns of equal length: what is known of the films beside their pixels."""

    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[films, findings]"""
    pathologies: NDArray[np.str_] = field(default_factory=_NOTHING.copy)
    """what biopsy or follow-up found; empty texts where nothing is known of it"""

    def __post_init__(self) -> None:
        """Fill in pathologies that were not given."""
        if not len(self.pathologies):
            object.__setattr__(self, "pathologies", np.full(len(self.image_ids), ""))

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> FilmTable:
        """Return the films at these rows, in their order."""
        return FilmTable(
            self.image_ids[rows],
            self.patient_ids[rows],
            self.views[rows],
            self.splits[rows],
            self.labels[rows],
            self.pathologies[rows],
        )

    @staticmethod
    def concatenate(tables: list[FilmTable]) -> FilmTable:
        """Join tables, at least one, end to end."""
        return FilmTable(
            np.concatenate([table.image_ids for table in tables]),
            np.concatenate([table.patient_ids for table in tables]),
            np.concatenate([table.views for table in tables]),
            np.concatenate([table.splits for table in tables]),
            np.concatenate([table.labels for table in tables]),
            np.concatenate([table.pathologies for table in tables]),
        )


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
    texts = {
        "image_id": table.image_ids,
        "patient_id": table.patient_ids,
        "view": table.views,
        "split": table.splits,
        "pathology": table.pathologies,
    }
    if not (table.pathologies != "").any():
        del texts["pathology"]
    columns = {name: pa.array(texts[name].tolist(), pa.string()) for name in texts}
    batch = pa.record_batch({"image": pixels, "labels": labels, **columns})
    with atomic_file(path) as temporary, ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


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
            image_ids=_strings(batch.column("image_id")),
            patient_ids=_strings(batch.column("patient_id")),
            views=_strings(batch.column("view")),
            splits=_strings(batch.column("split")),
            labels=labels.reshape(len(batch), findings),
            pathologies=_strings(batch.column("pathology")) if "pathology" in batch.schema.names else _NOTHING,
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
    expected = dict.fromkeys(("image_id", "patient_id", "view", "split"), pa.string())
    expected |= {"image": pa.binary(image_size**2), "labels": pa.list_(pa.bool_(), findings)}
    for name, kind in expected.items():
        if batch.schema.field(name).type != kind:
            raise ValueError(f"column {name} holds {batch.schema.field(name).type}, expected {kind}")
    for name in batch.schema.names:
        if batch.column(name).null_count:
            raise ValueError(f"column {name} has empty values")


def _strings(column: pa.Array) -> NDArray[np.str_]:
    texts = column.to_pylist()
    if (longest := max(map(len, texts), default=0)) > MAX_CELL:  # each text of the array takes as much room
        raise ValueError(f"a text of {longest:,} letters, the limit is {MAX_CELL}")
    return np.array(texts, dtype=np.str_)
