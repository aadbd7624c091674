"""Films of phantom patients in memory: anatomy, findings, exposure and noise put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radflow.data.images.film import resize_film
from radflow.data.phantom.chest.anatomy import Anatomy, draw_chest, place_chest
from radflow.data.phantom.chest.findings import DRAWING, REMODELLING
from radflow.data.phantom.chest.hospitals import HOSPITALS, Hospital
from radflow.data.phantom.drawing import Chance, Map, edge
from radflow.data.readers.chestxray14 import FINDINGS
from radflow.errors import UserError

SMALLEST_FILM = 64
LARGEST_FILM = 1024

_PIXELS_AT_ONCE = 2**18
"""Pixels of the maps of one batch: 16 films of 128 pixels keep a map within a processor's cache."""

_PATIENT, _FILM, _FIRST_FINDING = 0, 1, 2
"""Last part of a random generator's key: what the generator is for."""


def render_films(
    labels: ArrayLike,
    image_size: int,
    seed: int,
    *,
    patients: ArrayLike | None = None,
    follow_ups: ArrayLike | None = None,
    female: ArrayLike | None = None,
    portable: ArrayLike | None = None,
    hospital: Hospital = HOSPITALS["first"],
) -> NDArray[np.uint8]:
    """Films with the given findings, as uint8 [films, image_size, image_size].

    Parameters
    ----------
    labels
        bool [films, 14], in the order of `FINDINGS`.
    image_size
        Pixels along a side, 64 to 1024.
    seed
        At least 0. A film depends on the seed, its patient, its follow-up number and what is asked of it alone.
    patients, follow_ups
        Numbers [films] that say who is on the film, and which film of his it is; each film is the first one of
        another patient unless given.
    female, portable, hospital
        bool [films]: the patient's sex, and whether the view is AP (portable) in place of PA; false unless given.
        Exposure and noise are the hospital's.

    Raises
    ------
    UserError
        When the size is out of range, the seed negative or the labels are not [films, 14].
    """
    wanted = np.asarray(labels, bool)
    check_image_size(image_size)
    if wanted.ndim != 2 or wanted.shape[1] != len(FINDINGS):
        raise UserError(f"labels have shape {wanted.shape}; expected [films, {len(FINDINGS)}], one column per finding")
    if seed < 0:
        raise UserError(f"seed is {seed}; give 0 or more")
    count = len(wanted)
    patients = np.arange(1, count + 1) if patients is None else np.asarray(patients)
    follow_ups = np.zeros(count, int) if follow_ups is None else np.asarray(follow_ups)
    female = np.zeros(count, bool) if female is None else np.asarray(female, bool)
    portable = np.zeros(count, bool) if portable is None else np.asarray(portable, bool)
    films = np.empty((count, image_size, image_size), np.uint8)
    for batch in _batches(count, image_size):
        visits = zip(patients[batch], follow_ups[batch], strict=True)
        keys = [(seed, int(patient), int(follow_up)) for patient, follow_up in visits]
        columns = _column(female[batch]), _column(portable[batch])
        films[batch] = _render_batch(wanted[batch], image_size, keys, *columns, hospital)
    return films


def golden_film(image_size: int) -> NDArray[np.uint8]:
    """A phantom with a mass and an effusion, uint8 [size, size]: no patient's film leaves with a model."""
    labels = [[finding in ("Mass", "Effusion") for finding in FINDINGS]]
    film = render_films(labels, min(max(image_size, SMALLEST_FILM), LARGEST_FILM), seed=0)[0]
    return resize_film(film, image_size)


def check_image_size(image_size: int) -> None:
    """Raise `UserError` for a size that phantoms are not drawn at."""
    if not SMALLEST_FILM <= image_size <= LARGEST_FILM:
        raise UserError(
            f"image size is {image_size}; phantom films have {SMALLEST_FILM} to {LARGEST_FILM} pixels along a side"
        )


def _batches(count: int, image_size: int) -> Iterator[slice]:
    step = max(1, _PIXELS_AT_ONCE // _drawing_size(image_size) ** 2)
    return (slice(start, start + step) for start in range(0, count, step))


def _drawing_size(image_size: int) -> int:
    """Small films are drawn at twice their size and averaged, so that fine lines do not break up."""
    return image_size * 2 if image_size <= 128 else image_size


def _column(values: NDArray[np.bool_]) -> Map:
    return values.astype(np.float32).reshape(-1, 1, 1)


def _render_batch(
    labels: NDArray[np.bool_],
    image_size: int,
    keys: list[tuple[int, int, int]],
    female: Map,
    portable: Map,
    hospital: Hospital,
) -> NDArray[np.uint8]:
    anatomy = Anatomy.draw(Chance([(seed, patient, 0, _PATIENT) for seed, patient, _ in keys]), female)
    film = Chance([(*key, _FILM) for key in keys])
    affected = {
        finding: (rows, Chance([(*keys[row], _FIRST_FINDING + column) for row in rows]))
        for column, finding in enumerate(FINDINGS)
        if len(rows := np.flatnonzero(labels[:, column]))
    }
    for finding, remodel in REMODELLING.items():
        if finding in affected:
            rows, chance = affected[finding]
            changed = anatomy.of(rows)
            remodel(changed, chance)
            anatomy.put(rows, changed)
    chest = place_chest(anatomy, portable, film, _drawing_size(image_size))
    picture = draw_chest(chest, portable, film)
    for finding, draw in DRAWING.items():
        if finding in affected:
            rows, chance = affected[finding]
            picture[rows] = draw(picture[rows], chest.of(rows), chance)
    picture = _add_devices(picture, portable, film)
    return _expose(_shrink(picture, image_size), portable, film, hospital)


def _add_devices(picture: Map, portable: Map, chance: Chance) -> Map:
    """Leads and electrodes of a monitor on half of the portable films."""
    axis = np.linspace(-1, 1, picture.shape[1], dtype=np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    monitored = portable * chance.happens(0.5)
    for _ in range(2):
        middle, slope, bend = chance.between(-0.7, 0.7), chance.around(0.0, 0.5), chance.around(0.0, 0.3)
        lead = edge(0.009 - np.abs(x - middle - slope * y - bend * y * y), 0.02)
        picture = picture + monitored * 0.2 * lead
    return picture


def _shrink(picture: Map, image_size: int) -> Map:
    factor = picture.shape[1] // image_size
    if factor == 1:
        return picture
    return picture.reshape(len(picture), image_size, factor, image_size, factor).mean(axis=(2, 4), dtype=np.float32)


def _expose(picture: Map, portable: Map, chance: Chance, hospital: Hospital) -> NDArray[np.uint8]:
    """Film blackening: uneven field, exposure, contrast, quantum noise, collimator and side marker."""
    size = picture.shape[1]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    uneven = chance.around(0.0, 0.04) * (1 + portable) * x + chance.around(0.0, 0.04) * (1 + portable) * y
    contrast = chance.between(0.85, 1.15) - 0.06 * portable
    light = (picture + uneven - 0.5) * contrast + 0.5 + chance.around(0.0, 0.07)
    light = np.clip(light, 0.004, 1) ** (chance.between(0.75, 1.3) * np.float32(hospital.gamma_factor))
    noise = chance.between(0.006, 0.016) * (1 + 0.5 * portable) * np.float32(hospital.noise_factor)
    shutter = chance.happens(0.2) * chance.between(0.02, 0.08)
    marker = edge(0.035 - np.abs(x - chance.between(0.8, 0.9))) * edge(0.045 - np.abs(y + chance.between(0.75, 0.9)))
    # The grain is drawn last: it takes as many draws as there are pixels, the rest must not depend on the size.
    light = (light + noise * chance.grain(size)) * edge(1.03 - np.maximum(np.abs(x), np.abs(y)) - shutter, 0.03)
    light = np.maximum(light, 0.95 * marker)
    return (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8)
