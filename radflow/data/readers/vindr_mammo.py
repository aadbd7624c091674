"""VinDr-Mammo: four views of 5,000 examinations as DICOM, with BI-RADS of each breast and boxes around local findings.

Nguyen et al. 2023 (doi:10.1038/s41597-023-02100-7). There are no biopsies: a breast of BI-RADS 4 or 5 is suspicious,
one of 1 to 3 is not. Local findings are marked where they are not benign, so that what is not marked is absent. The
release names no patients: each examination is taken for a patient of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from radflow.data.dataset.shards import FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.birads import SUSPICIOUS, birads_labels
from radflow.data.readers.boxes import FindingBox, corner_box, with_film_sizes
from radflow.data.readers.cells import names_of_list, side
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles, find_image
from radflow.data.readers.label_columns import Labels, labels_of_sets
from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.data.tasks import BREAST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

LABEL_FILE = "breast-level_annotations.csv"
FINDING_FILE = "finding_annotations.csv"
FINDINGS = (
    *("Mass", "Suspicious Calcification", "Asymmetry", "Focal Asymmetry", "Global Asymmetry"),
    *("Architectural Distortion", "Skin Thickening", "Skin Retraction", "Nipple Retraction", "Suspicious Lymph Node"),
)
"""Categories of local findings."""
PARTS = {"training": "train", "test": "test"}
NO_PATIENTS = "VinDr-Mammo names no patients: each examination is taken for a patient of its own."
_COLUMNS = ("study_id", "image_id", "laterality", "view_position", "breast_birads", "split")
_CATEGORIES = "finding_categories"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_BIRADS = re.compile(r"BI-RADS (\d)")


@dataclass(frozen=True)
class VinDrMammo:
    """A folder with the tables beside images/, which holds a folder an examination."""

    layout: ClassVar[str] = "vindr_mammo"
    title: ClassVar[str] = "VinDr-Mammo"
    looks_for: ClassVar[str] = LABEL_FILE
    findings: ClassVar[tuple[str, ...]] = (SUSPICIOUS, *FINDINGS)
    task: ClassVar[str] = BREAST
    units: ClassVar[tuple[ImageUnit, ...]] = ("breasts", "films")
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 299
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the table of breasts is in the folder."""
        return (folder / LABEL_FILE).is_file()

    @classmethod
    def at(cls, source: str | Location) -> VinDrMammo:
        """Look at a folder; raises `UserError` where the table of breasts is not in it."""
        folder = locate(source)
        if not cls.recognises(folder):
            raise UserError(f"no {LABEL_FILE} in {folder}; put the release's tables beside the folder images")
        return cls(folder)

    def plan(self, request: Request) -> ReleasePlan:
        """Read the tables of breasts and of local findings, if it is there; see `Reader.plan`."""
        table = read_table(self.folder / LABEL_FILE)
        table.require(_COLUMNS)
        marked = self.folder / FINDING_FILE
        local = read_table(marked) if marked.is_file() else None
        labels = birads_labels(table, "breast_birads", _BIRADS)
        if local is not None:
            labels = labels.beside(_local_labels(local, table.columns["image_id"]))
        divided = divide_films(_film_table(table, labels), table.path, request, _parts(table))
        names = divided.table.image_ids.tolist()
        places = dict(zip(table.columns["image_id"], table.columns["study_id"], strict=True))
        sources = [table.path, *([] if local is None else [local.path])]
        return ReleasePlan(
            table=divided.table,
            findings=labels.findings,
            sources={**{path.name: path for path in sources}, **request.lists.sources()},
            images=lambda _: self._files(names, places).images(names),
            units=lambda: self._files(names, places).units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
            notes=(NO_PATIENTS,),
            boxes=[]
            if local is None
            else with_film_sizes(list(_boxes(local)), lambda name: self._find_film(name, places)),
        )

    def _files(self, names: Sequence[str], examinations: dict[str, str]) -> FilmFiles:
        found = {name: path for name in names if (path := self._find_film(name, examinations))}
        return FilmFiles(found, (), self._why_absent)

    def _find_film(self, name: str, examinations: dict[str, str]) -> Location | None:
        return find_image(self.folder / "images" / examinations[name], name) if name in examinations else None

    @property
    def _why_absent(self) -> str:
        return f"no image file in the folder of its examination in {self.folder}/images"


def _film_table(table: WholeTable, labels: Labels) -> FilmTable:
    return FilmTable(
        image_ids=table.unique("image_id"),
        patient_ids=np.array(table.columns["study_id"]),
        study_ids=np.array(table.columns["study_id"]),
        sides=np.array([side(cell) for cell in table.columns["laterality"]]),
        views=np.array([cell.upper() for cell in table.columns["view_position"]]),
        splits=np.full(len(table), ""),
        **labels.planes,
    )


def _parts(table: WholeTable) -> np.ndarray:
    cells = table.columns["split"]
    if wrong := [place for place, cell in enumerate(cells) if cell not in PARTS]:
        told = table.examples("split", iter(wrong))
        raise UserError(f"{table.path}, column split has {told}; expected {' or '.join(PARTS)}")
    return np.array([PARTS[cell] for cell in cells])


def _local_labels(local: WholeTable, images: Sequence[str]) -> Labels:
    """The categories that are marked on each of these images."""
    local.require(("image_id", _CATEGORIES, *_CORNERS))
    marked: dict[str, frozenset[str]] = {}
    for image, (_, categories) in zip(local.columns["image_id"], _categories(local), strict=True):
        marked[image] = marked.get(image, frozenset()) | categories
    sets = [marked.get(image, frozenset()) for image in images]
    return labels_of_sets(local, _CATEGORIES, sets, FINDINGS, must_occur=False)


def _categories(local: WholeTable) -> Iterator[tuple[int, frozenset[str]]]:
    for place, cell in enumerate(local.columns[_CATEGORIES]):
        names = names_of_list(cell)
        if names is None:
            told = local.examples(_CATEGORIES, iter([place]))
            raise UserError(f"{local.path}, column {_CATEGORIES} has {told}; expected a list such as ['Mass']")
        yield place, names


def _boxes(local: WholeTable) -> Iterator[FindingBox]:
    for place, categories in _categories(local):
        for finding in sorted(categories & set(FINDINGS)):
            yield corner_box(local, place, local.columns["image_id"][place], finding, _CORNERS)
