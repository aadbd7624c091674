"""One shard: an uncompressed Arrow IPC file with one record batch, mapped into memory and read without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from radflow.errors import UserError
from radflow.files import atomic_file

MAX_SHARD_ROWS = 4_096
MAX_SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FilmTable:
    """One row a film, in columns of equal length: what is known of the films beside their pixels."""

    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[films, findings]"""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> FilmTable:
        """Return the films at these rows, in their order."""
        return FilmTable(
            self.image_ids[rows], self.patient_ids[rows], self.views[rows], self.splits[rows], self.labels[rows]
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
    batch = pa.record_batch(
        {
            "image": pixels,
            "labels": labels,
            "image_id": pa.array(table.image_ids.tolist(), pa.string()),
            "patient_id": pa.array(table.patient_ids.tolist(), pa.string()),
            "view": pa.array(table.views.tolist(), pa.string()),
            "split": pa.array(table.splits.tolist(), pa.string()),
        }
    )
    with atomic_file(path) as temporary, ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def map_shard(path: Path, image_size: int) -> tuple[FilmTable, NDArray[np.uint8]]:
    """Map a shard: its table in memory, and its films [n, H, W] as a read-only view of the file.

    Only the pages of the small columns are read. Raises `UserError` where the file is no such shard.
    """
    try:
        batch = ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        films = np.frombuffer(batch.column("image").buffers()[1], np.uint8, len(batch) * image_size**2)
        findings = batch.column("labels").type.list_size
        # Not Array.to_numpy, which imports pandas and so takes longer than everything else here.
        bits = np.frombuffer(batch.column("labels").flatten().buffers()[1], np.uint8)
        labels = np.unpackbits(bits, count=len(batch) * findings, bitorder="little").view(np.bool_)
        table = FilmTable(
            image_ids=_strings(batch.column("image_id")),
            patient_ids=_strings(batch.column("patient_id")),
            views=_strings(batch.column("view")),
            splits=_strings(batch.column("split")),
            labels=labels.reshape(len(batch), findings),
        )
    except (OSError, pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}); make the dataset again") from error
    return table, films.reshape(len(batch), image_size, image_size)


def _strings(column: pa.Array) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), dtype=np.str_)
