"""What single cells of label tables mean, however programs write them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from radflow.data.dataset.shards import UNKNOWN_AGE

PRESENT, ABSENT, UNCERTAIN, NOTHING = range(4)
"""What a label's cell says."""
EMPTY = {"", "nan", "na", "n/a", "null"}
"""What stands in cells that say nothing."""
OLDEST = 120
"""Years."""

FLAGS: dict[str, int] = {
    **dict.fromkeys(("1", "true", "yes", "y", "positive", "present"), PRESENT),
    **dict.fromkeys(("0", "false", "no", "n", "negative", "absent"), ABSENT),
    **dict.fromkeys(("-1", "uncertain"), UNCERTAIN),
    **dict.fromkeys(EMPTY, NOTHING),
}
_SEXES = {"f": "F", "female": "F", "w": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}
_SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}
_WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")
_AGE = re.compile(r"0*(\d{1,3})(?:\.\d+)?\s*([YMWD]?)", re.IGNORECASE)


def flag(cell: str) -> int | None:
    """What a label's cell says; None for something else."""
    return FLAGS.get(number_or_name(cell).lower())


def are_flags(cells: Sequence[str]) -> bool:
    """Whether all cells are labels, and some say something."""
    flags = {flag(cell) for cell in set(cells)}
    return None not in flags and flags != {NOTHING}


def number_or_name(cell: str) -> str:
    """A cell as a name, in which 13, 00013 and 13.0 are one."""
    number = _WHOLE_NUMBER.sub(r"\1", cell)
    return str(int(number)) if number.isdecimal() else number


def sex(cell: str) -> str:
    """F, M, or empty where the cell does not say."""
    return _SEXES.get(cell.lower(), "")


def side(cell: str) -> str:
    """L, R, or empty where the cell does not say."""
    return _SIDES.get(cell.lower(), "")


def years(cell: str) -> int:
    """Years of `57`, `57.0` or `058Y`, 0 of `011M`; `UNKNOWN_AGE` of what is no age of a person."""
    match = _AGE.fullmatch(cell)
    if match is None or int(match[1]) > OLDEST:
        return UNKNOWN_AGE
    return int(match[1]) if match[2].upper() in ("", "Y") else 0


def names_of_list(cell: str) -> frozenset[str] | None:
    """The names of a list that is written as Python writes it; None where it is none, or empty."""
    try:
        names = ast.literal_eval(cell) if cell.startswith("[") else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(name.strip() for name in names) - {""} or None
