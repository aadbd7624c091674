"""The columns by which films are divided into subgroups: their own, and those of a table that the user gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions
from radflow.evaluation.subgroups import known_columns

MOST_VALUES = 20
"""Different texts in a column of a table, above which it does not divide films into groups."""
_KEYS = {"image_id": "image_ids", "patient_id": "patient_ids"}


def subgroup_columns(predictions: Predictions, names: str, table: str) -> dict[str, NDArray[np.str_]]:
    """The columns of films with these `names`, which commas divide, and all columns of a table if one is named.

    Raises UserError for an unknown column, and for a table that names no film, or one twice, or has a column of the
    same name or of too many values.
    """
    columns = known_columns(predictions, [name.strip() for name in names.split(",") if name.strip()])
    given = _columns_of(read_table(Path(table)), predictions) if table else {}
    if both := sorted(columns.keys() & given.keys()):
        raise UserError(f"{table} has a column {both[0]}, as the films have; rename it, or leave it out of subgroups")
    return columns | given


def _columns_of(table: WholeTable, predictions: Predictions) -> dict[str, NDArray[np.str_]]:
    key = next((name for name in _KEYS if name in table.columns), None)
    if key is None:
        raise UserError(f"{table.path} has neither {' nor '.join(_KEYS)}; it has {', '.join(table.columns)}")
    row_of = {name: row for row, name in enumerate(table.unique(key).tolist())}
    rows = [row_of.get(name) for name in getattr(predictions, _KEYS[key]).tolist()]
    if all(row is None for row in rows):
        raise UserError(f"{table.path} names none of the {len(rows):,} films by its {key}; give the films' table")
    columns = {name: cells for name, cells in table.columns.items() if name not in _KEYS}
    for name, cells in columns.items():
        if (values := len(set(cells))) > MOST_VALUES:
            raise UserError(
                f"{table.path}: column {name} has {values:,} different values, which make no subgroups; leave it out, "
                f"or put them into at most {MOST_VALUES} bands"
            )
    return {name: np.array(["" if row is None else cells[row] for row in rows]) for name, cells in columns.items()}
