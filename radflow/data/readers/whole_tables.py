"""Tables of unknown columns, read whole: CSV, TSV and their kin as programs export them, and Parquet."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radflow.data.tables import MAX_CELL
from radflow.errors import UserError
from radflow.files import open_regular
from radflow.storage import Location

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet")
"""Names of tables end so."""
MAX_BYTES = 512 * 2**20
"""Largest table that is read, unpacked; that of MIMIC-CXR, the longest that is known, has 60 MB."""
MAX_ROWS = 5_000_000
SEPARATORS = (",", ";", "\t", "|")
"""Of cells; Excel exports semicolons where the comma is in numbers."""

csv.field_size_limit(2**20)  # reports stand in cells of some tables


@dataclass(frozen=True)
class WholeTable:
    """A table in columns of text, without outer blanks; an empty text is an empty cell."""

    path: Location
    rows: list[int]
    """Number of each row in the file, for messages."""
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def require(self, columns: Sequence[str]) -> None:
        """Raise `UserError` unless the table has these columns."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise UserError(f"{self.path} lacks the columns {', '.join(missing)}; it has {', '.join(self.columns)}")

    def unique(self, column: str, read: Callable[[str], str] = str) -> NDArray[np.str_]:
        """The cells of a column that names something; raises `UserError` where one is empty or stands twice."""
        places: dict[str, int] = {}
        for place, name in enumerate(map(read, self.columns[column])):
            if not name:
                raise UserError(f"{self.path}, row {self.rows[place]} has no {column}; fix the row")
            if name in places:
                first, second = self.rows[places[name]], self.rows[place]
                raise UserError(f"{self.path} lists {name} twice, in rows {first} and {second}; remove one")
            places[name] = place
        return np.array(list(places))

    def examples(self, column: str, places: Iterator[int]) -> str:
        """The first three of these cells, with the rows where they stand, for a message."""
        cells = self.columns[column]
        return ", ".join(f"{cells[place][:40]!r} in row {self.rows[place]}" for place in itertools.islice(places, 3))


def read_table(path: Location) -> WholeTable:
    """Read a table; raises `UserError` for what is none, with the row where one is at fault."""
    return _read_parquet(path) if path.suffix == ".parquet" else _read_text_table(path)


def read_header(path: Location) -> list[str]:
    """Names of the columns of a table; none where it cannot be read."""
    try:
        if path.suffix == ".parquet":
            with open_regular(path) as file:
                return list(pq.read_schema(file).names)
        return next(_cells(path), (0, []))[1]
    except (UserError, OSError, pa.ArrowException):
        return []


def _read_text_table(path: Location) -> WholeTable:
    lines = _cells(path)
    _, names = next(lines, (0, []))
    _check_header(path, names)
    columns: list[list[str]] = [[] for _ in names]
    numbers: list[int] = []
    for number, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(names):
            given, expected = len(cells), len(names)
            raise UserError(
                f"{path}, row {number} has {given} cells, expected {expected}; fix the row, or its separators"
            )
        if len(numbers) == MAX_ROWS:
            raise UserError(f"{path} has over {MAX_ROWS:,} rows, as no label file does; give a part of it")
        numbers.append(number)
        for column, cell in zip(columns, cells, strict=True):
            # Most cells of most columns are the same few texts.
            column.append(sys.intern(cell) if len(cell) < MAX_CELL else cell)
    return WholeTable(path, numbers, dict(zip(names, columns, strict=True)))


def _cells(path: Location) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row, the header first, without outer blanks and a last empty cell."""
    try:
        with open_regular(path) as packed:
            unpacked = gzip.open(packed) if path.suffix == ".gz" else packed  # noqa: SIM115  (holds nothing but `packed`)
            bounded = io.BufferedReader(_Bounded(path, unpacked), 2**16)
            text = io.TextIOWrapper(bounded, _encoding_of(path), newline="")
            first = text.readline()
            reader = csv.reader(itertools.chain([first], text), delimiter=_separator_of(first), strict=True)
            try:
                for cells in reader:
                    yield reader.line_num, [cell.strip() for cell in cells]
            except csv.Error as error:
                raise UserError(f"{path}, row {reader.line_num} is not CSV ({error}); fix the row") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} has a byte that is not {error.encoding}; save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


class _Bounded(io.RawIOBase):
    """Reads a file up to `MAX_BYTES`."""

    def __init__(self, path: Location, file: io.BufferedIOBase | gzip.GzipFile) -> None:
        self._path, self._file, self._left = path, file, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(f"{self._path} holds over {MAX_BYTES:,} bytes, as no label file does; give a part of it")
        buffer[: len(content)] = content
        return len(content)


def _encoding_of(path: Location) -> str:
    """UTF-8, or UTF-16 where the file says so, as Excel's `Unicode text` does."""
    with open_regular(path) as packed:
        start = gzip.open(packed).read(2) if path.suffix == ".gz" else packed.read(2)  # noqa: SIM115
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator_of(header: str) -> str:
    """The separator that is most in a header."""
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=outside_quotes.count)


def _read_parquet(path: Location) -> WholeTable:
    try:
        with open_regular(path) as file:
            table = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({str(error).partition(chr(10))[0]})") from error
    _check_header(path, table.column_names)
    columns = {name: [_text(value) for value in table[name].to_pylist()] for name in table.column_names}
    return WholeTable(path, list(range(1, len(table) + 1)), columns)


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value).strip()


def _check_header(path: Location, names: list[str]) -> None:
    if len(names) < 2:
        raise UserError(f"{path} has {len(names)} columns, expected one for the file and more; give another table")
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise UserError(f"{path} has two columns {repeated[0]!r}; rename one")
