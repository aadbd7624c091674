"""Settings by which one's own table is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from radflow.errors import UserError

Role = Literal["file", "patient", "study", "view", "side", "sex", "age", "split", "labels"]
"""What a column may be, beside a finding."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """What the columns of one's own table are, where their names do not tell."""

    table: str = ""
    """Table of one's own films (layout=csv), in source; empty is the only one there that names files and patients."""
    columns: str = ""
    """Its columns, as file=Path,patient=Case; file, patient, study, view, side, sex, age, split, labels (of names)."""
    findings: str = ""
    """Findings that are taken of it, as Edema,Mass: columns of 1, 0, -1 and blanks, or names in one column."""

    blank: Literal["auto", "absent", "unknown"] = "auto"
    """Meaning of an empty label: auto is absent in CheXpert and MIMIC-CXR, where it is not mentioned, else unknown."""

    def __post_init__(self) -> None:
        """Check that columns are given to what there is."""
        self.given_columns()

    def given_columns(self) -> dict[Role, str]:
        """The column of each role that is given; raises `UserError`."""
        given: dict[Role, str] = {}
        for part in filter(None, self.columns.split(",")):
            role, _, column = (word.strip() for word in part.partition("="))
            if role not in get_args(Role) or not column or role in given:
                raise UserError(
                    f"columns={self.columns}: {part.strip()!r} is not one role and its column; expected such as "
                    f"file=Path,patient=Case, of {', '.join(get_args(Role))}"
                )
            given[role] = column  # type: ignore[index]
        return given

    @property
    def given_findings(self) -> tuple[str, ...]:
        """The findings that are given, in their order."""
        return tuple(filter(None, (name.strip() for name in self.findings.split(","))))
