"""INbreast: 410 full-field digital mammograms as DICOM, with the BI-RADS category of each.

Moreira et al. 2012 (doi:10.1016/j.acra.2011.09.014). Its table names films by number; a film's file is called
20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm, of which the second part is the patient, whom the table does not name. The
release is not divided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from radflow.data.dataset.shards import FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.birads import SUSPICIOUS, birads_labels
from radflow.data.readers.cells import number_or_name, side
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles
from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.data.tasks import BREAST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

LABEL_FILE = "INbreast.csv"
FOLDERS = ("AllDICOMs", ".")
"""Folders in which films lie."""
_COLUMNS = ("Laterality", "View", "Acquisition date", "File Name", "Bi-Rads")
_BIRADS = re.compile(r"(\d)[abc]?")
_FILE = re.compile(r"(\d+)_(\w+?)_MG_.*\.dcm", re.IGNORECASE)


@dataclass(frozen=True)
class INbreast:
    """A folder with the table beside AllDICOMs/."""

    layout: ClassVar[str] = "inbreast"
    title: ClassVar[str] = "INbreast"
    looks_for: ClassVar[str] = LABEL_FILE
    findings: ClassVar[tuple[str, ...]] = (SUSPICIOUS,)
    task: ClassVar[str] = BREAST
    units: ClassVar[tuple[ImageUnit, ...]] = ("breasts", "films")
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 299
    split_rules: ClassVar[tuple[str, ...]] = ("random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the table is in the folder."""
        return (folder / LABEL_FILE).is_file()

    @classmethod
    def at(cls, source: str | Location) -> INbreast:
        """Look at a folder; raises `UserError` where the table is not in it."""
        folder = locate(source)
        if not cls.recognises(folder):
            raise UserError(f"no {LABEL_FILE} in {folder}; put the release's table beside the folder AllDICOMs")
        return cls(folder)

    def plan(self, request: Request) -> ReleasePlan:
        """Read the table, and patients from the names of files; see `Reader.plan`."""
        table = read_table(self.folder / LABEL_FILE)
        table.require(_COLUMNS)
        divided = divide_films(self._film_table(table), table.path, request)
        names = divided.table.image_ids.tolist()
        files = FilmFiles({name: path for name, (_, path) in self._found.items()}, (), self._why_absent)
        return ReleasePlan(
            table=divided.table,
            sources={table.path.name: table.path, **request.lists.sources()},
            images=lambda _: files.images(names),
            units=lambda: files.units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
        )

    @cached_property
    def _found(self) -> dict[str, tuple[str, Location]]:
        """Patient and file of each film, by its number."""
        found: dict[str, tuple[str, Location]] = {}
        for place in reversed(FOLDERS):
            paths: list[Location] = sorted((self.folder / place).glob("*.dcm"))
            for path in paths:
                if match := _FILE.fullmatch(path.name):
                    found[match[1]] = (match[2], path)
        return found

    def _film_table(self, table: WholeTable) -> FilmTable:
        names = table.unique("File Name", number_or_name)
        # A film that is not there is rejected, whosever it is.
        patients = [self._found[name][0] if name in self._found else f"of {name}" for name in names.tolist()]
        dates = table.columns["Acquisition date"]
        return FilmTable(
            image_ids=names,
            patient_ids=np.array(patients),
            study_ids=np.array([f"{patient}/{date}" for patient, date in zip(patients, dates, strict=True)]),
            sides=np.array([side(cell) for cell in table.columns["Laterality"]]),
            views=np.array([cell.upper() for cell in table.columns["View"]]),
            splits=np.full(len(table), ""),
            **birads_labels(table, "Bi-Rads", _BIRADS).planes,
        )

    @property
    def _why_absent(self) -> str:
        return f"no DICOM file of this number in {self.folder}/{FOLDERS[0]}"
