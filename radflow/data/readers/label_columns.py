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

    def beside(self, others: Labels) -> Labels:
        """These findings, then others of the same films."""
        planes = {name: np.concatenate([plane, others.planes[name]], axis=1) for name, plane in self.planes.items()}
        return Labels((*self.findings, *others.findings), **planes)

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
    """The labels of a column of names that are joined by | ; or , of which an empty cell says nothing."""
    cells = table.columns[column]
    separator = max("|;,", key=lambda each: sum(each in cell for cell in cells))
    names_of = {cell: frozenset(name.strip() for name in cell.split(separator)) - {""} for cell in set(cells)}
    sets = [None if cell.lower() in EMPTY else names_of[cell] for cell in cells]
    return labels_of_sets(table, column, sets, wanted)


def labels_of_sets(
    table: WholeTable,
    column: str,
    sets: Sequence[frozenset[str] | None],
    wanted: Sequence[str] = (),
    must_occur: bool = True,
) -> Labels:
    """The findings whose names are in a row's set are present, all others absent; of None nothing is known.

    A wanted finding may be several names, as nodule+multiple nodules, and is called by the first. Raises `UserError`
    for a wanted name that no set has, if it `must_occur`, and without `wanted` where the column has too many names.
    """
    counts = Counter(name for names in sets if names for name in names if name.lower() not in NONE_PRESENT)
    alternatives = [frozenset(map(str.strip, each.split("+"))) for each in wanted or sorted(counts)]
    missing = [name for names in alternatives for name in sorted(names) if name not in counts]
    if must_occur and missing:
        raise UserError(f"{table.path}: no cell of column {column} names {missing[0]}; they name {_some(counts)}")
    if not 0 < len(alternatives) <= MOST_NAMES:
        raise UserError(f"{table.path}, column {column} names {len(counts)} findings; give those to learn: findings=")
    findings = tuple(each.partition("+")[0].strip() for each in wanted) or tuple(sorted(counts))
    present = np.array([[bool(names and names & each) for each in alternatives] for names in sets], bool)
    known = np.repeat(np.array([names is not None for names in sets])[:, np.newaxis], len(findings), axis=1)
    return Labels(findings, present, known, np.zeros_like(known))


def _some(counts: Counter[str]) -> str:
    return ", ".join(name for name, _ in counts.most_common(10)) + (", ..." if len(counts) > 10 else "")
