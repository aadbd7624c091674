"""One's own films: a folder of images with one table of files, patients and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import UNKNOWN_AGE, FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.cells import ABSENT, EMPTY, NOTHING, are_flags, number_or_name, sex, side, years
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles, find_image
from radflow.data.readers.label_columns import Labels, labels_of_flags, labels_of_names
from radflow.data.readers.table_config import Role, TableConfig
from radflow.data.readers.whole_tables import SUFFIXES, WholeTable, read_header, read_table
from radflow.data.tasks import OTHER, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

USUAL_NAMES: dict[Role, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "filepath", "path", "imagepath", "imgpath", "relativepath", "dicompath"),
        *("image", "imagename", "imagefile", "imagefilename", "imageindex", "imageid", "img"),
        *("dicomid", "sopinstanceuid"),
    ),
    "patient": ("patientid", "patient", "subjectid", "subject", "patientnumber", "ptid", "pid", "caseid", "case"),
    "study": ("studyid", "study", "studyinstanceuid", "examid", "exam", "accessionnumber", "accession"),
    "view": ("viewposition", "view", "projection"),
    "side": ("laterality", "imagelaterality", "side", "breast", "leftorright"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "age": ("age", "patientage", "ageyears", "ageinyears"),
    "split": ("split", "subset", "partition"),
    "labels": ("labels", "findinglabels", "findings", "label", "finding", "diagnosis", "diagnoses"),
}
"""Names by which columns are recognised, in small letters and without anything between them, the likeliest first."""

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
_ARCHIVES = ("*.tar.gz", "*.zip", "*/*.tar.gz", "*/*.zip")


@dataclass(frozen=True)
class CsvTable:
    """A folder with a table and images, as files or in archives."""

    layout: ClassVar[str] = "csv"
    title: ClassVar[str] = "one's own films"
    looks_for: ClassVar[str] = "a table with columns for file and patient"
    findings: ClassVar[tuple[str, ...]] = ()
    task: ClassVar[str] = OTHER
    units: ClassVar[tuple[ImageUnit, ...]] = ("films", "breasts")
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether a table in the folder has columns that are named like those for files and patients."""
        return any(_names_films(path) for path in _tables_in(folder))

    @classmethod
    def at(cls, source: str | Location) -> CsvTable:
        """Look at a folder; raises `UserError` where there is none."""
        folder = locate(source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is not a folder; give the one with the table and the images")
        return cls(folder)

    def plan(self, request: Request) -> ReleasePlan:
        """Read the table and find its films; see `Reader.plan`."""
        path = self._table_path(request.own_table)
        table = read_table(path)
        if not len(table):
            raise UserError(f"{path} has no rows; give a table with a row a film")
        roles = _roles_of(table, request.own_table)
        labels = _read_labels(table, roles, request.own_table)
        films = divide_films(_film_table(table, roles, labels), path, request, _parts(table, roles, request))
        names = films.table.image_ids.tolist()
        return ReleasePlan(
            table=films.table,
            findings=labels.findings,
            sources={path.name: path, **request.lists.sources()},
            images=lambda _: self._files(names).images(names),
            units=lambda: self._files(names).units(names),
            absent=self._why_absent,
            unlabelled=films.unlabelled,
            unlisted=films.unlisted,
        )

    def _table_path(self, config: TableConfig) -> Location:
        if config.table:
            path = self.folder / config.table
            if not path.is_file():
                raise UserError(f"table={config.table} is no file in {self.folder}; give its name there")
            return path
        tables = list(_tables_in(self.folder))
        # One table needs no usual names: the columns may be given.
        fitting = tables if len(tables) == 1 else [path for path in tables if _names_films(path)]
        if len(fitting) != 1:
            found = ", ".join(path.name for path in fitting or tables) or "none"
            raise UserError(f"{self.folder} has not one table of films ({found}); name it by table=")
        return fitting[0]

    def _files(self, names: Sequence[str]) -> FilmFiles:
        archives = sorted(path for pattern in _ARCHIVES for path in self.folder.glob(pattern))
        return FilmFiles(dict(_find_films(self.folder, names)), archives, self._why_absent)

    @property
    def _why_absent(self) -> str:
        return f"no image file in {self.folder}, at the place that the table names, in its images folder or archives"


def _tables_in(folder: Location) -> Iterator[Location]:
    paths: list[Location] = sorted(folder.iterdir()) if folder.is_dir() else []
    return (path for path in paths if path.name.lower().endswith(SUFFIXES) and path.is_file())


def _names_films(path: Location) -> bool:
    header = {_plain(name) for name in read_header(path)}
    return all(header & set(USUAL_NAMES[role]) for role in ("file", "patient"))


def _find_films(folder: Location, names: Sequence[str]) -> Iterator[tuple[str, Location]]:
    """The place of each film that lies where the table says, or by its last part in the folder or in images/."""
    for name in names:
        last = PurePosixPath(name).name
        images = folder / "images"
        for place in ((folder, name), (folder, last), (images, name), (images, last)):
            if path := find_image(*place):
                yield name, path
                break


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _roles_of(table: WholeTable, config: TableConfig) -> dict[Role, str]:
    """The column of each role: as given, else the one with the likeliest of the usual names."""
    given = config.given_columns()
    for role, column in given.items():
        if column not in table.columns:
            raise UserError(
                f"columns={role}={column}: {table.path} has no such column; it has {', '.join(table.columns)}"
            )
    taken = set(given.values()) | set(config.given_findings)
    by_plain_name = {_plain(name): name for name in reversed(table.columns) if name not in taken}
    found = {role: next((by_plain_name[name] for name in names if name in by_plain_name), None)
             for role, names in USUAL_NAMES.items()}  # fmt: skip
    roles = {role: column for role, column in found.items() if column is not None} | given
    for role in ("file", "patient"):
        if role not in roles:
            raise UserError(
                f"{table.path} has no column that is named like the {role}; it has {', '.join(table.columns)}; "
                f"give columns={role}=NAME"
            )
    return roles


def _read_labels(table: WholeTable, roles: Mapping[Role, str], config: TableConfig) -> Labels:
    """The labels, of a column of names or of a column a finding."""
    column = roles.get("labels")
    if column and not are_flags(table.columns[column]):
        return labels_of_names(table, column, config.given_findings)
    others = [
        name for name in table.columns if name and name not in {roles[role] for role in roles if role != "labels"}
    ]
    wanted = config.given_findings or tuple(name for name in others if are_flags(table.columns[name]))
    if not wanted:
        raise UserError(
            f"{table.path} has no column of labels: none of {', '.join(others) or 'its columns'} has only 1, 0, -1 and "
            "blanks; give findings=COLUMN,... or columns=labels=COLUMN of names"
        )
    return labels_of_flags(table, wanted, ABSENT if config.blank == "absent" else NOTHING)


def _film_table(table: WholeTable, roles: Mapping[Role, str], labels: Labels) -> FilmTable:
    def column(role: Role, read: Callable[[str], str]) -> NDArray[np.str_]:
        return np.array([read(cell) for cell in table.columns[roles[role]]] if role in roles else [""] * len(table))

    ages = [years(cell) for cell in table.columns[roles["age"]]] if "age" in roles else [UNKNOWN_AGE] * len(table)
    return FilmTable(
        image_ids=_file_names(table, roles["file"]),
        patient_ids=np.array(_patients(table, roles["patient"])),
        study_ids=column("study", number_or_name),
        views=column("view", str.upper),
        sides=column("side", side),
        sexes=column("sex", sex),
        ages=np.array(ages, np.int16),
        splits=np.full(len(table), ""),
        **labels.planes,
    )


def _file_names(table: WholeTable, column: str) -> NDArray[np.str_]:
    names = table.unique(column, lambda cell: cell.replace("\\", "/"))
    for place, name in enumerate(names.tolist()):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not name.isprintable():
            raise UserError(
                f"{table.path}, column {column} has {table.examples(column, iter([place]))}; expected the place of a "
                "film in the folder of the table, such as images/1.png"
            )
    return names


def _patients(table: WholeTable, column: str) -> list[str]:
    patients = [number_or_name(cell) for cell in table.columns[column]]
    empty = [place for place, patient in enumerate(patients) if patient.lower() in EMPTY]
    if empty:
        rows = ", ".join(str(table.rows[place]) for place in empty[:3])
        raise UserError(
            f"{table.path}, column {column} has no patient in {len(empty)} rows ({rows}); films of one patient must "
            "stay together: fill them in"
        )
    return patients


def _parts(table: WholeTable, roles: Mapping[Role, str], request: Request) -> NDArray[np.str_]:
    """The part of each film by the table's own column; needed where the request is official."""
    if request.split != "official":
        return np.full(len(table), "")
    if "split" not in roles:
        raise UserError(
            f"{table.path} has no column of the split; give columns=split=NAME, split=random (by patient) or "
            "split=lists"
        )
    cells = [cell.lower() for cell in table.columns[roles["split"]]]
    if wrong := [place for place, cell in enumerate(cells) if cell not in SPLIT_NAMES and cell not in EMPTY]:
        told = table.examples(roles["split"], iter(wrong))
        raise UserError(f"{table.path}, column {roles['split']} has {told}; expected train, val or test")
    return np.array([SPLIT_NAMES.get(cell, "") for cell in cells])
