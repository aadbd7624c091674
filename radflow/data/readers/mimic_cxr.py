"""MIMIC-CXR-JPG: 377,110 films of 227,827 studies with the labels of CheXpert's labeller, or of NegBio.

Johnson et al. 2019 (arXiv:1901.07042; PhysioNet, doi:10.13026/8360-t248). Labels are of studies: every film of a study
has them. The release divides patients into train, validate and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.cells import number_or_name
from radflow.data.readers.chexpert import FINDINGS, observations
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles
from radflow.data.readers.label_columns import Labels
from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.data.tasks import CHEST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

FILES = "mimic-cxr-2.*-{}.csv*"
"""Names of the tables, plain or gzipped; the second number is that of the release."""
LABELLERS = ("chexpert", "negbio")
"""Whose labels are taken, the first that is there, unless `table` names one."""
PARTS = {"train": "train", "validate": "val", "test": "test"}


@dataclass(frozen=True)
class MimicCxr:
    """A folder with the tables of labels, metadata and split, and the films in files/p10/p10000032/s50414267/."""

    layout: ClassVar[str] = "mimic_cxr"
    title: ClassVar[str] = "MIMIC-CXR-JPG"
    looks_for: ClassVar[str] = FILES.format("metadata")
    findings: ClassVar[tuple[str, ...]] = FINDINGS
    task: ClassVar[str] = CHEST
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the table of metadata is in the folder."""
        return any(folder.glob(cls.looks_for))

    @classmethod
    def at(cls, source: str | Location) -> MimicCxr:
        """Look at a folder; raises `UserError` where there is none."""
        folder = locate(source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is not a folder; give the one with {cls.looks_for} and files/")
        return cls(folder)

    def plan(self, request: Request) -> ReleasePlan:
        """Join the tables by study and film; see `Reader.plan`."""
        metadata, split = (read_table(self._path(kind)) for kind in ("metadata", "split"))
        labels_path = self._labels_path(request.own_table.table)
        labels_table = read_table(labels_path)
        metadata.require(
            (
                "dicom_id",
                "subject_id",
                "study_id",
                "ViewPosition",
            )
        )
        split.require(
            (
                "dicom_id",
                "split",
            )
        )
        labels_table.require(
            (
                "subject_id",
                "study_id",
            )
        )
        table = _film_table(metadata, _labels_of_films(metadata, labels_table, request.own_table.blank))
        divided = divide_films(table, split.path, request, _parts(metadata, split))
        names = divided.table.image_ids.tolist()
        sources = {path.name: path for path in (labels_path, metadata.path, split.path)}
        return ReleasePlan(
            table=divided.table,
            sources={**sources, **request.lists.sources()},
            images=lambda _: self._files(names).images(names),
            units=lambda: self._files(names).units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
        )

    def _path(self, kind: str) -> Location:
        found: list[Location] = sorted(self.folder.glob(FILES.format(kind)))
        if len(found) != 1:
            given = ", ".join(path.name for path in found) or "none"
            raise UserError(f"{self.folder} has not one {FILES.format(kind)} ({given}); put the release's table there")
        return found[0]

    def _labels_path(self, given: str) -> Location:
        if given:
            path: Location = self.folder / given
            if not path.is_file():
                raise UserError(f"table={given} is no file in {self.folder}; give the name of the table of labels")
            return path
        there = [labeller for labeller in LABELLERS if any(self.folder.glob(FILES.format(labeller)))]
        return self._path((there or LABELLERS)[0])

    def _files(self, names: Sequence[str]) -> FilmFiles:
        return FilmFiles(dict(self._unpacked(names)), (), self._why_absent)

    def _unpacked(self, names: Sequence[str]) -> Iterator[tuple[str, Location]]:
        for name in names:
            for place in (self.folder / "files" / name, self.folder / name):
                if place.is_file():
                    yield name, place
                    break

    @property
    def _why_absent(self) -> str:
        return f"no image file in {self.folder / 'files'}"


def _studies(table: WholeTable) -> list[tuple[str, str]]:
    """Patient and study of each row."""
    subjects, studies = (map(number_or_name, table.columns[name]) for name in ("subject_id", "study_id"))
    return list(zip(subjects, studies, strict=True))


def _labels_of_films(metadata: WholeTable, labels: WholeTable, blank: str) -> Labels:
    """The labels of each film's study; of a study that the labeller has not seen nothing is known."""
    of_studies = observations(labels, blank)
    row_of = {study: row for row, study in enumerate(_studies(labels))}
    rows = np.array([row_of.get(study, -1) for study in _studies(metadata)])
    taken, labelled = of_studies.take(rows.tolist()), (rows >= 0)[:, np.newaxis]
    return Labels(FINDINGS, taken.labels & labelled, taken.known & labelled, taken.uncertain & labelled)


def _film_table(metadata: WholeTable, labels: Labels) -> FilmTable:
    studies = _studies(metadata)
    films = metadata.columns["dicom_id"]
    names = [
        f"p{subject[:2]}/p{subject}/s{study}/{film}.jpg" for (subject, study), film in zip(studies, films, strict=True)
    ]
    return FilmTable(
        image_ids=np.array(names),
        patient_ids=np.array([subject for subject, _ in studies]),
        study_ids=np.array([study for _, study in studies]),
        views=np.array([cell.upper() for cell in metadata.columns["ViewPosition"]]),
        splits=np.full(len(metadata), ""),
        **labels.planes,
    )


def _parts(metadata: WholeTable, split: WholeTable) -> NDArray[np.str_]:
    wrong = [place for place, part in enumerate(split.columns["split"]) if part not in PARTS]
    if wrong:
        told = split.examples("split", iter(wrong))
        raise UserError(f"{split.path}, column split has {told}; expected {', '.join(PARTS)}")
    part_of = dict(zip(split.columns["dicom_id"], split.columns["split"], strict=True))
    return np.array([PARTS.get(part_of.get(film, ""), "") for film in metadata.columns["dicom_id"]])
