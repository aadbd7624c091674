"""Labels out of the columns of a table: a column a finding, or one column of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radflow.data.readers.cells import ABSENT, EMPTY, NOTHING, PRESENT, UNCERTAIN, flag
from radflow.data.readers.whole_tables import WholeTable
from radflow.errors import UserError

NONE_PRESENT = {"no finding", "no findings", "normal", "none"}
"""Names in a column of names by which all findings are absent."""
MOST_NAMES = 200
"""Most findings that are taken from a column of names without being asked for."""


@dataclass(frozen=True)
class Labels:
    """What a table says of findings: three planes [films, findings] as in `FilmTable`."""

    findings: tuple[str, ...]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]
    uncertain: NDArray[np.bool_]

    @property
    def planes(self) -> dict[str, Any]:
        """The planes by the names that they have in a `FilmTable`."""
        return {"labels": self.labels, "known": self.known, "uncertain": self.uncertain}

    def take(self, rows: Sequence[int]) -> Labels:
        """The labels of these rows, in their order."""
        return Labels(self.findings, **{name: plane[list(rows)] for name, plane in self.planes.items()})


def labels_of_flags(table: WholeTable, columns: Sequence[str], blank: int = NOTHING) -> Labels:
    """The labels of a column a finding, of 1, 0, -1 and blanks, which mean `blank`.

    Raises `UserError`, with three rows, for a column that is not there or has other cells.
    """
    codes = np.empty((len(table), len(columns)), np.int8)
    for place, column in enumerate(columns):
        if column not in table.columns:
            raise UserError(f"{table.path} has no column {column}; it has {', '.join(table.columns)}")
        cells = table.columns[column]
        code_of = {cell: flag(cell) for cell in set(cells)}
        if None in code_of.values():
            told = table.examples(column, (row for row, cell in enumerate(cells) if code_of[cell] is None))
            raise UserError(f"{table.path}, column {column} has {told}; expected 1, 0, -1 (uncertain) or an empty cell")
        codes[:, place] = np.array([code_of[cell] for cell in cells], np.int8)
    codes[codes == NOTHING] = blank
    return Labels(tuple(columns), codes == PRESENT, np.isin(codes, (PRESENT, ABSENT)), codes == UNCERTAIN)


def labels_of_names(table: WholeTable, column: str, wanted: Sequence[str] = ()) -> Labels:
    """The findings whose names stand in a cell, joined by | ; or , are present, all others absent.

    An empty cell says nothing. Raises `UserError` for a wanted finding that no cell names.
    """
    cells = table.columns[column]
    separator = max("|;,", key=lambda each: sum(each in cell for cell in cells))
    names_of = {cell: {name.strip() for name in cell.split(separator)} - {""} for cell in set(cells)}
    counts = Counter(name for cell in cells for name in names_of[cell] if name.lower() not in NONE_PRESENT)
    findings = tuple(wanted) or tuple(sorted(counts))
    if missing := [name for name in wanted if name not in counts]:
        raise UserError(f"{table.path}: no cell of column {column} names {missing[0]}; they name {_some(counts)}")
    if not 0 < len(findings) <= MOST_NAMES:
        raise UserError(f"{table.path}, column {column} names {len(findings)} findings; give those to learn: findings=")
    present = np.array([[finding in names_of[cell] for finding in findings] for cell in cells], bool)
    says = np.array([cell.lower() not in EMPTY for cell in cells])
    known = np.repeat(says[:, np.newaxis], len(findings), axis=1)
    return Labels(findings, present & known, known, np.zeros_like(known))


def _some(counts: Counter[str]) -> str:
    return ", ".join(name for name, _ in counts.most_common(10)) + (", ..." if len(counts) > 10 else "")
