"""Mammograms with located lesions cut into crops: tumour, or normal tissue.

Each set of mammograms describes its films as `Mammogram` and `Lesion`; from here on they are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from radflow.data.crops.lesions import (
    CropConfig,
    cut_crop,
    lesion_window,
    normal_windows,
    pad_to,
    random_of,
)
from radflow.data.dataset.shards import FilmTable
from radflow.data.decoding import LeftOut, Outcome, in_order
from radflow.data.images.breast import breast_mask
from radflow.data.images.film import BadFilm

TUMOUR_FINDINGS = ("Tumour",)
"""The one label of a crop: a tumour, benign or malignant, against normal tissue (section IV of the paper)."""

NORMAL_TISSUE = "normal"
"""Word for it in a crop's name and as its pathology."""
BENIGN, BENIGN_WITHOUT_CALLBACK, MALIGNANT = "benign", "benign_without_callback", "malignant"
"""Pathologies of lesions; CBIS-DDSM tells benign ones apart by whether the woman was called back."""


class FilmFile(Protocol):
    """Place of a film's pixels; may be sent to another process."""

    def read_pixels(self) -> NDArray[np.uint8]:
        """Grey uint8 [H, W]; raises `BadFilm`."""


class Outline(Protocol):
    """Place of a lesion on its film; may be sent to another process."""

    def read_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask for a film of this shape, bool [H, W]; raises `BadFilm` where there is no usable one."""


@dataclass(frozen=True)
class Lesion:
    """A lesion of a film."""

    name: str
    """Its number on the film."""
    pathology: str
    """Benign, benign_without_callback or malignant."""
    outline: Outline | None
    """None where the release does not locate the lesion."""


@dataclass(frozen=True)
class Mammogram:
    """A film as its set's lists describe it; may be sent to another process."""

    name: str
    """Unique in the set."""
    patient_id: str
    side: str
    """L or R"""
    view: str
    """CC or MLO"""
    in_test: bool | None
    """Whether the film is in the official test part; None in a set that is not divided."""
    file: FilmFile
    lesions: tuple[Lesion, ...]
    other_lesions: tuple[Lesion, ...] = ()
    """Lesions that crops of normal tissue must avoid too."""

    @property
    def located(self) -> tuple[tuple[Lesion, Outline], ...]:
        """The lesions to cut crops of, with where they are."""
        return _located(self.lesions)

    @property
    def unlocated(self) -> tuple[Lesion, ...]:
        """Lesions that are somewhere on the film."""
        return tuple(lesion for lesion in self.lesions if lesion.outline is None)


class CropName(NamedTuple):
    """What the `image_id` of a crop says: `mdb005:lesion2:crop0`, or `mdb003:normal:crop1`."""

    film: str
    lesion: str
    """Lesion1, lesion2 ..., or normal."""
    number: int

    def __str__(self) -> str:
        """Return the `image_id`."""
        return f"{self.film}:{self.lesion}:crop{self.number}"

    @property
    def shows_tumour(self) -> bool:
        """Whether the crop is one of a lesion."""
        return self.lesion != NORMAL_TISSUE

    @property
    def lesion_id(self) -> str:
        """`mdb005:lesion2`, or nothing where the crop shows no lesion."""
        return f"{self.film}:{self.lesion}" if self.shows_tumour else ""


def crops_of(film: Mammogram, crops: CropConfig) -> list[CropName]:
    """Name every crop that is wanted of a film: of each lesion, then of normal tissue."""
    names = [name for lesion, _ in film.located for name in _crops_of_lesion(film, lesion, crops)]
    return names + _crops_of_normal_tissue(film, crops)


def crop_table(films: Sequence[Mammogram], splits: NDArray[np.str_], crops: CropConfig) -> FilmTable:
    """Make the rows of a dataset: one each crop of each film, in order, in its film's split."""
    names = [(name, film, split) for film, split in zip(films, splits.tolist(), strict=True)
             for name in crops_of(film, crops)]  # fmt: skip
    pathologies = {lesion_id(film, lesion): lesion.pathology for film in films for lesion in film.lesions}
    return FilmTable(
        image_ids=np.array([str(name) for name, _, _ in names]),
        patient_ids=np.array([film.patient_id for _, film, _ in names]),
        views=np.array([film.view for _, film, _ in names]),
        sides=np.array([film.side for _, film, _ in names]),
        splits=np.array([split for _, _, split in names]),
        labels=np.array([[name.shows_tumour] for name, _, _ in names]),
        pathologies=np.array([pathologies.get(name.lesion_id, NORMAL_TISSUE) for name, _, _ in names]),
        film_ids=np.array([name.film for name, _, _ in names]),
        lesion_ids=np.array([name.lesion_id for name, _, _ in names]),
    )


def lesion_id(film: Mammogram, lesion: Lesion) -> str:
    """`mdb005:lesion2`: the `lesion_id` of each of its crops."""
    return f"{film.name}:lesion{lesion.name}"


def cut_films(
    films: Sequence[Mammogram], crops: CropConfig, image_size: int, seed: int, workers: int
) -> Iterator[tuple[str, Outcome]]:
    """Cut all crops of all films by several processes: `image_id` and outcome, in the order of `crop_table`."""
    work = partial(cut_film, crops=crops, image_size=image_size, seed=seed)
    for outcomes in in_order(work, films, workers, name_of=lambda film: film.name):
        yield from outcomes


def cut_film(film: Mammogram, crops: CropConfig, image_size: int, seed: int) -> list[tuple[str, Outcome]]:
    """Cut the crops of one film, uint8 [image_size, image_size]; the seed and a crop's name decide what it shows.

    One mask at a time is held in memory, beside the film and all lesions' pixels so far. Normal tissue is told from
    lesions only where every lesion of the film is located, so a film with an unusable mask gives none.
    """
    try:
        original = film.file.read_pixels()
    except BadFilm as error:
        return [(str(name), error) for name in crops_of(film, crops)]
    pixels = pad_to(original, crops.crop_size)
    covered = np.zeros(pixels.shape, bool)
    unlocated = [f"lesion{lesion.name}" for lesion in film.unlocated]
    outcomes: list[tuple[str, Outcome]] = []
    for lesion, outline in film.located + _located(film.other_lesions):
        wanted = _crops_of_lesion(film, lesion, crops) if lesion in film.lesions else []
        try:
            mask = pad_to(outline.read_mask(original.shape), crops.crop_size)
        except BadFilm as error:
            unlocated.append(f"lesion{lesion.name}")
            outcomes += [(str(name), error) for name in wanted]
            continue
        covered |= mask
        outcomes += [(str(name), _lesion_crop(name, pixels, mask, crops, image_size, seed)) for name in wanted]
    if unlocated:
        reason = LeftOut(f"normal tissue cannot be told: {', '.join(unlocated)} of the film has no location")
        return outcomes + [(str(name), reason) for name in _crops_of_normal_tissue(film, crops)]
    return outcomes + _normal_crops(film, pixels, covered, crops, image_size, seed)


def left_out_lesions(listed: Sequence[Mammogram], kept: Sequence[Mammogram]) -> dict[str, str]:
    """Name the lesions of which there can be no crop although nothing is damaged, with the reason."""
    names = {film.name for film in kept}
    left_out: dict[str, str] = {}
    for film in listed:
        if film.name in names:
            left_out |= {lesion_id(film, lesion): "the release does not give its location" for lesion in film.unlocated}
        else:
            reason = f"in the train part, but patient {film.patient_id} is in the test part too"
            left_out |= {lesion_id(film, lesion): reason for lesion in film.lesions}
    return left_out


class LesionRow(NamedTuple):
    """A row of `lesions.csv`, which accounts for every lesion that the release lists."""

    film: str
    lesion: str
    patient_id: str
    view: str
    pathology: str
    split: str
    """Train, val or test; nothing for a lesion that is in none."""
    crops: int
    """Crops of it in the dataset."""
    reason: str
    """Why there are no more."""


def lesion_rows(
    listed: Sequence[Mammogram], left_out: Mapping[str, str], table: FilmTable, missing: Mapping[str, str]
) -> list[LesionRow]:
    """Account for every lesion of `listed`: left out, or with crops in `table`, of which `missing` gives the lost ones.

    Both mappings give reasons: by lesion (`lesion_id`), and by `image_id` of a crop.
    """
    splits: dict[str, str] = {}
    crops: dict[str, list[str]] = {}
    for image_id, lesion, split in zip(
        table.image_ids.tolist(), table.lesion_ids.tolist(), table.splits.tolist(), strict=True
    ):
        splits[lesion] = split
        crops.setdefault(lesion, []).append(image_id)
    rows = []
    for film in listed:
        for lesion in film.lesions:
            name = lesion_id(film, lesion)
            wanted = crops.get(name, [])
            lost = [missing[crop] for crop in wanted if crop in missing]
            reason = left_out.get(name, lost[0] if lost else "")
            made = len(wanted) - len(lost)
            rows.append(
                LesionRow(film.name, lesion.name, film.patient_id, film.view, lesion.pathology,
                          splits.get(name, "") if made else "", made, reason)
            )  # fmt: skip
    return rows


def _located(lesions: Sequence[Lesion]) -> tuple[tuple[Lesion, Outline], ...]:
    return tuple((lesion, lesion.outline) for lesion in lesions if lesion.outline is not None)


def _crops_of_lesion(film: Mammogram, lesion: Lesion, crops: CropConfig) -> list[CropName]:
    return [CropName(film.name, f"lesion{lesion.name}", number) for number in range(crops.crops_per_lesion)]


def _crops_of_normal_tissue(film: Mammogram, crops: CropConfig) -> list[CropName]:
    return [CropName(film.name, NORMAL_TISSUE, number) for number in range(crops.negatives_per_film)]


def _lesion_crop(
    name: CropName, pixels: NDArray[np.uint8], mask: NDArray[np.bool_], crops: CropConfig, image_size: int, seed: int
) -> NDArray[np.uint8]:
    random = random_of(seed, str(name))
    window = lesion_window(mask, crops.crop_size, crops.crop_padding, random)
    return cut_crop(pixels, window, crops.crop_size, image_size, random)


def _normal_crops(
    film: Mammogram,
    pixels: NDArray[np.uint8],
    covered: NDArray[np.bool_],
    crops: CropConfig,
    image_size: int,
    seed: int,
) -> list[tuple[str, Outcome]]:
    names = _crops_of_normal_tissue(film, crops)
    random = random_of(seed, f"{film.name}:{NORMAL_TISSUE}")
    windows = normal_windows(breast_mask(pixels), covered, crops.crop_size, len(names), random)
    cut: list[Outcome] = [cut_crop(pixels, window, crops.crop_size, image_size, random) for window in windows]
    no_room = LeftOut(f"no room for another crop of normal tissue of {crops.crop_size} pixels")
    return [
        (str(name), outcome) for name, outcome in zip(names, cut + [no_room] * (len(names) - len(cut)), strict=True)
    ]
