"""Label files as text and as rows, plain or gzipped, with every fault told by file and row."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator

from radflow.errors import UserError
from radflow.files import open_regular
from radflow.storage import Location

MAX_LABEL_BYTES = 64 * 2**20
"""Largest label file that is read, unpacked; that of ChestX-ray14 has 8 MB."""

MAX_CELL = 1_000
"""Most letters in a cell; the longest of the releases are paths of some 200."""

MAX_COLUMN = 2**27
"""Most letters in a column if all its cells were as long as the longest, as numpy stores them: 512 MB."""


def read_text(path: Location) -> str:
    """Read a UTF-8 file, gzipped if its name ends in .gz.

    Raises `UserError` for a file that is damaged, too large or in another code, with the row where one byte is.
    """
    try:
        with open_regular(path) as packed:
            file = gzip.open(packed) if path.suffix == ".gz" else packed  # noqa: SIM115  (holds nothing but `packed`)
            content = file.read(MAX_LABEL_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len(content) > MAX_LABEL_BYTES:
        raise UserError(f"{path} holds over {MAX_LABEL_BYTES:,} bytes, as no label file does; give the release's")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise UserError(f"{path} is UTF-16 or no text, expected UTF-8; save the file as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, row {row} has a byte that is not UTF-8; save the file as UTF-8") from error


def read_rows(
    path: Location, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV as its line number and its cells of `columns`, in their order, without outer blanks.

    The cells of `optional` columns follow, empty where the file does not have them. Empty lines are passed over; a
    cell may hold line breaks, the number is then that of its last line. Raises `UserError` for an empty file, missing
    columns, a row that is too short, quotes that do not close, and cells that would fill the memory.
    """
    longest = 1
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        places = _column_places(path, next(reader, []), columns, optional)
        longest_row = max(place for place in places if place is not None)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) <= longest_row:
                given, expected = len(cells), longest_row + 1
                raise UserError(
                    f"{path}, row {reader.line_num} has {given} cells, expected at least {expected}; fix the row"
                )
            chosen = ["" if place is None else cells[place].strip() for place in places]
            longest = max(longest, *map(len, chosen))
            _check_room(path, reader.line_num, longest)
            yield reader.line_num, chosen
    except csv.Error as error:
        raise UserError(f"{path}, row {reader.line_num} is not CSV ({error}); fix the row") from error


def _check_room(path: Location, row: int, longest: int) -> None:
    """Refuse a table before its columns, in which every cell has the longest one's room, fill the memory."""
    if longest > MAX_CELL:
        raise UserError(f"{path}, row {row} has a cell of {longest:,} letters, the limit is {MAX_CELL:,}; fix the row")
    if row * longest > MAX_COLUMN:
        raise UserError(
            f"{path} has over {row:,} rows and a cell of {longest} letters, as no label file does; shorten the names, "
            "or give a part of it"
        )


def _column_places(
    path: Location, header: list[str], columns: tuple[str, ...], optional: tuple[str, ...]
) -> list[int | None]:
    names = [name.strip() for name in header]
    if not any(names):
        raise UserError(f"{path} is empty; give the release's label file, which begins with {columns[0]!r}")
    missing = [column for column in columns if column not in names]
    if missing:
        there = " ".join(", ".join(names).split())[:MAX_CELL]
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; it has {there}")
    return [names.index(column) if column in names else None for column in (*columns, *optional)]
