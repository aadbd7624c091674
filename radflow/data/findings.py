"""Findings under the names that different releases give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from radflow.errors import UserError

_SAME: tuple[tuple[str, ...], ...] = (
    ("pleural effusion", "effusion"),
    ("edema", "oedema", "pulmonary edema"),
    ("infiltration", "infiltrates", "infiltrate"),
    ("mass", "pulmonary mass", "lung mass"),
    ("fibrosis", "pulmonary fibrosis"),
    ("hernia", "hiatal hernia"),
)
"""Names of one finding, in small letters and with blanks for underscores."""
_FIRST = {name: names[0] for names in _SAME for name in names}


def plain_finding(name: str) -> str:
    """A name by which one finding is known in all releases: of Pleural_Thickening it is `pleural thickening`."""
    words = " ".join(name.replace("_", " ").lower().split())
    return _FIRST.get(words, words)


def key_of(finding: str) -> str:
    """A finding in metric keys and names of files: Nodule_Mass, where these may not hold a sign of Nodule/Mass."""
    return re.sub(r"[^\w.\- ]", "_", finding)


def check_names(findings: Sequence[str]) -> None:
    """Raise UserError for names that could not be told apart where findings are listed, or as keys of metrics."""
    known: dict[str, str] = {}
    for finding in findings:
        if "," in finding:
            raise UserError(f"finding {finding!r} has a comma, which divides lists of findings; give it another name")
        other = known.setdefault(key_of(finding).lower(), finding)
        if other is not finding:
            raise UserError(f"findings {other!r} and {finding!r} would have one key of metrics; rename one of them")


def join_findings(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All findings of several releases, each once, by the name and in the order of the first that has it."""
    names: dict[str, str] = {}
    for findings in lists:
        for finding in findings:
            names.setdefault(plain_finding(finding), finding)
    return tuple(names.values())
