"""The contract of a reader: what `preprocess` asks of a dataset as it is released.

A dataset is one module in this folder, with a class that keeps `Reader`, and its line in `radflow.data.readers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from radflow.data.crops.lesions import CropConfig
from radflow.data.crops.mammograms import LesionRow
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import official_split, random_split
from radflow.data.decoding import Outcome, StoredFilm
from radflow.data.readers.archives import RefusedMember
from radflow.data.readers.boxes import FindingBox
from radflow.data.readers.film_lists import ListConfig
from radflow.data.readers.table_config import TableConfig
from radflow.data.tasks import ImageUnit
from radflow.storage import Location

PHANTOM_MARK = "PHANTOMS.txt"
"""File beside synthetic films."""

Image = StoredFilm | RefusedMember | tuple[str, Outcome]
"""A film's bytes, which are decoded; a file of the source that is not taken; or the outcome of an `image_id`."""


Unit = Callable[[], Iterator[Image]]
"""Reads a part of the sources."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The settings of `preprocess` that a reader follows; `PreprocessConfig` documents them."""

    split: str
    """One of the reader's `split_rules`."""
    unit: str
    """One of the reader's `units`."""
    views: str
    """View positions that are taken, as PA,AP; empty is all."""
    val_fraction: float
    test_fraction: float
    seed: int
    image_size: int
    workers: int
    lists: ListConfig
    crops: CropConfig
    own_table: TableConfig

    @property
    def wanted_views(self) -> list[str]:
        """View positions that are taken; none is all."""
        return [view.strip().upper() for view in self.views.split(",") if view.strip()]

    def divide(self, patient_ids: NDArray[np.str_], in_test: NDArray[np.bool_]) -> NDArray[np.str_]:
        """Give images to splits by their patients: at random, or with the official test part as it is."""
        if self.split == "random":
            return random_split(patient_ids, self.val_fraction, self.test_fraction, self.seed)
        return official_split(patient_ids, in_test, self.val_fraction, self.seed)


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """The rows of a dataset, each in its split, and where their images come from. No image has been opened yet."""

    table: FilmTable
    """A row an image, with all that the release tells of it; images of which no finding is known are left out."""
    findings: tuple[str, ...] = ()
    """Names of the labels in their order, where the label file decides them"""
    sources: Mapping[str, Location]
    """Files that decide the table, by the names under which the manifest keeps their hashes."""
    images: Callable[[Callable[[str], bool]], Iterator[Image]]
    """Function that is told whether an `image_id` is awaited, and yields at least those that are, in any order."""
    units: Callable[[], Sequence[Unit]] | None = None
    """Function that divides the sources into parts for different machines, as archives, which yield all that they have;
    None where any image can be read by itself"""
    absent: str = ""
    """Reason of an image that no unit has."""
    unlabelled: Mapping[str, str] = field(default_factory=dict)
    """Reasons by name of what is wanted and has no row: counted as rejected."""
    unlisted: Mapping[str, str] = field(default_factory=dict)
    """Reasons by name of what is in no split although nothing is damaged."""
    notes: tuple[str, ...] = ()
    """What a user of the dataset must know, in sentences."""
    crops: CropConfig | None = None
    """How crops are cut, where this reader cuts them."""
    boxes: Sequence[FindingBox] = ()
    """Boxes around findings, of which the dataset keeps those on its films."""
    lesions: Callable[[Mapping[str, str]], Sequence[LesionRow]] | None = None
    """Function that accounts for every lesion, given the reasons, by `image_id`, of the images that are missing."""


class Reader(Protocol):
    """A folder with a dataset as it is released. Nothing but names is read until `plan` is called."""

    layout: ClassVar[str]
    """Name of the dataset, as `layout=` takes it."""
    title: ClassVar[str]
    """Name of the dataset, as its authors write it."""
    looks_for: ClassVar[str]
    """The file that tells the release from others, for the message where none is found."""
    findings: ClassVar[tuple[str, ...]]
    """Names of the labels, in their order; none where the label file decides them."""
    task: ClassVar[str]
    """What is classified by films or crops: one of `radflow.data.tasks`."""
    units: ClassVar[tuple[ImageUnit, ...]]
    """What an image may be, the first unless told otherwise."""
    fit: ClassVar[Literal["pad", "squash"]]
    """How films become square unless told otherwise."""
    image_size: ClassVar[int]
    """Height and width of the stored images unless told otherwise."""
    split_rules: ClassVar[tuple[str, ...]]
    """Those of official, random and lists that it takes; a release that is not divided is random unless told."""

    @property
    def name(self) -> str:
        """Name of the dataset unless told otherwise: the layout, or a name that all phantoms of it share."""

    @property
    def folder(self) -> Location:
        """Place of the release, on disk or in an object store."""

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the folder holds this release, by its label files."""

    @classmethod
    def at(cls, source: str | Location) -> Self:
        """Look at a folder; raises `UserError` where it does not hold this release."""

    def plan(self, request: Request) -> ReleasePlan:
        """Read the label files and give every image to a split; raises `UserError` for what is wrong with them."""
