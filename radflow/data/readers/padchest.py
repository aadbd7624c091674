"""PadChest: 160,868 films of 67,625 patients of one hospital, with the findings of each report as names.

Bustos et al. 2020 (arXiv:1901.07441, doi:10.1016/j.media.2020.101797). Of 174 findings those with a counterpart in
ChestX-ray14 are taken unless `findings` names others. A quarter of the reports was labelled by doctors, the rest by a
network. The release is not divided. Films are PNGs of 16 bits; some of the archives' are damaged and are rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from radflow.data.dataset.shards import UNKNOWN_AGE, FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.cells import EMPTY, OLDEST, names_of_list, number_or_name, sex
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles
from radflow.data.readers.label_columns import Labels, labels_of_sets
from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.data.tasks import CHEST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

LABEL_FILE = "PADCHEST_chest_x_ray_images_labels_160K*.csv*"
FINDINGS = (
    *("atelectasis", "cardiomegaly", "pleural effusion", "infiltrates", "pulmonary mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "pulmonary edema", "emphysema", "pulmonary fibrosis", "pleural thickening"),
    "hiatal hernia",
)
"""In the order of ChestX-ray14's."""
EXCLUDED = {"exclude", "suboptimal study"}
"""Labels of films that no radiologist would judge: nothing is known of them."""
_COLUMNS = ("ImageID", "PatientID", "StudyID", "Projection", "PatientSex_DICOM", "Labels")
_YEARS = ("StudyDate_DICOM", "PatientBirth")


@dataclass(frozen=True)
class PadChest:
    """A folder with the table, and the films in it, in folders or in the numbered zips."""

    layout: ClassVar[str] = "padchest"
    title: ClassVar[str] = "PadChest"
    looks_for: ClassVar[str] = LABEL_FILE
    findings: ClassVar[tuple[str, ...]] = FINDINGS
    task: ClassVar[str] = CHEST
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("random", "lists")

    folder: Location
    label_path: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the table is in the folder."""
        return any(folder.glob(LABEL_FILE))

    @classmethod
    def at(cls, source: str | Location) -> PadChest:
        """Find the table in a folder; raises `UserError` where there is not one."""
        folder = locate(source)
        found: list[Location] = sorted(folder.glob(LABEL_FILE)) if folder.is_dir() else []
        if len(found) != 1:
            given = ", ".join(path.name for path in found) or "none"
            raise UserError(f"{folder} has not one {LABEL_FILE} ({given}); put the release's table beside the films")
        return cls(folder, found[0])

    def plan(self, request: Request) -> ReleasePlan:
        """Read the table; see `Reader.plan`."""
        table = read_table(self.label_path)
        table.require(_COLUMNS)
        labels = _labels(table, request.own_table.given_findings)
        divided = divide_films(_film_table(table, labels), table.path, request)
        names = divided.table.image_ids.tolist()
        return ReleasePlan(
            table=divided.table,
            findings=labels.findings,
            sources={table.path.name: table.path, **request.lists.sources()},
            images=lambda _: self._files().images(names),
            units=lambda: self._files().units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
        )

    def _files(self) -> FilmFiles:
        there = {path.name: path for pattern in ("*/*.[pP][nN][gG]", "*.[pP][nN][gG]") for path in self._paths(pattern)}
        return FilmFiles(there, self._paths("*.zip"), self._why_absent)

    def _paths(self, pattern: str) -> list[Location]:
        return sorted(self.folder.glob(pattern))

    @property
    def _why_absent(self) -> str:
        return f"no image file in {self.folder}, its folders or zips"


def _labels(table: WholeTable, wanted: Sequence[str]) -> Labels:
    names: dict[str, frozenset[str] | None] = {}
    for place, cell in enumerate(table.columns["Labels"]):
        if cell not in names:
            names[cell] = names_of_list(cell)
            if names[cell] is None and cell.lower() not in EMPTY:
                told = table.examples("Labels", iter([place]))
                raise UserError(
                    f"{table.path}, column Labels has {told}; expected a list such as ['pneumonia', 'nodule']"
                )
    sets = [names[cell] for cell in table.columns["Labels"]]
    judged = [None if each is None or each & EXCLUDED else each for each in sets]
    return labels_of_sets(table, "Labels", judged, wanted or FINDINGS, must_occur=bool(wanted))


def _film_table(table: WholeTable, labels: Labels) -> FilmTable:
    patients = [number_or_name(cell) for cell in table.columns["PatientID"]]
    if "" in patients:
        raise UserError(f"{table.path}, row {table.rows[patients.index('')]} has no PatientID; fix the row")
    return FilmTable(
        image_ids=table.unique("ImageID"),
        patient_ids=np.array(patients),
        study_ids=np.array(table.columns["StudyID"]),
        views=np.array([cell.upper() for cell in table.columns["Projection"]]),
        sexes=np.array([sex(cell) for cell in table.columns["PatientSex_DICOM"]]),
        ages=np.array(_ages(table), np.int16),
        splits=np.full(len(table), ""),
        **labels.planes,
    )


def _ages(table: WholeTable) -> list[int]:
    """Years from birth to study, of which only the years are told."""
    if not all(name in table.columns for name in _YEARS):
        return [UNKNOWN_AGE] * len(table)
    return [_years_between(birth[:4], study[:4])
            for study, birth in zip(*(table.columns[name] for name in _YEARS), strict=True)]  # fmt: skip


def _years_between(birth: str, study: str) -> int:
    if not (birth.isdecimal() and study.isdecimal()):
        return UNKNOWN_AGE
    age = int(study) - int(birth)
    return age if 0 <= age <= OLDEST else UNKNOWN_AGE
