"""What BI-RADS says of a breast: what releases have that no biopsy decides."""

from __future__ import annotations

import re

import numpy as np

from radflow.data.readers.label_columns import Labels
from radflow.data.readers.whole_tables import WholeTable
from radflow.errors import UserError

SUSPICIOUS = "Suspicious"
"""Finding of a breast whose BI-RADS category advises a biopsy or follows one: 4 to 6."""
_LEAST = 4


def birads_labels(table: WholeTable, column: str, pattern: re.Pattern[str]) -> Labels:
    """Whether each row's category is suspicious; of 0, an incomplete assessment, it is not known.

    `pattern` finds the category in a cell, as its first group. Raises `UserError` with three rows for other cells.
    """
    found = [pattern.fullmatch(cell) for cell in table.columns[column]]
    categories = np.array([int(match[1]) if match else -1 for match in found])
    if (wrong := np.flatnonzero((categories < 0) | (categories > 6))).size:
        told = table.examples(column, iter(wrong.tolist()))
        raise UserError(f"{table.path}, column {column} has {told}; expected a BI-RADS category from 0 to 6")
    present, known = categories[:, np.newaxis] >= _LEAST, categories[:, np.newaxis] > 0
    return Labels((SUSPICIOUS,), present, known, np.zeros_like(known))
