"""Mammograms of phantom patients in memory: breast outline, tissue, and lesions of different conspicuity with masks.

Positions are in film heights: x from the chest wall at the left edge, y from the middle of the film, downwards. A film
of the right breast is the mirror image. Films are float32 [height, width] with grey levels 0 (no tissue) to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.phantom.drawing import Chance, edge, hill

ASPECT = 0.75
"""Width of a film in heights."""

Kind = Literal["mass", "calcification"]
Grey = NDArray[np.float32]

_TEXTURES = ((5, 0.045), (14, 0.040), (40, 0.030), (110, 0.020))
"""Grains along a film and how far they move its grey level: tissue is rough on every scale."""


@dataclass(frozen=True)
class PhantomLesion:
    """A lesion of a patient, which each of her films shows from another direction."""

    kind: Kind
    is_malignant: bool
    extent: float
    """Radius in film heights."""
    contrast: float
    """How much brighter than its surroundings, in grey levels; the tissue's own roughness is about 0.07."""
    key: int
    """Seed of its random shape."""

    @property
    def subtlety(self) -> int:
        """Conspicuity from 1 (subtle) to 5 (obvious), as the CSVs of CBIS-DDSM rate lesions."""
        low, high = CONTRASTS[self.kind]
        return 1 + min(4, int(5 * (self.contrast - low) / (high - low)))


CONTRASTS: dict[Kind, tuple[float, float]] = {"mass": (0.08, 0.26), "calcification": (0.14, 0.42)}
EXTENTS: dict[Kind, tuple[float, float]] = {"mass": (0.014, 0.040), "calcification": (0.014, 0.036)}


def draw_mammogram(
    lesions: tuple[PhantomLesion, ...], height: int, key: tuple[int, ...], view: str, is_right: bool
) -> tuple[Grey, list[NDArray[np.bool_]]]:
    """A film with these lesions, and the mask of each; the key and the lesions decide what it shows.

    Parameters
    ----------
    lesions
        Drawn where `key` puts them, inside the breast.
    height
        Rows; there are 3/4 as many columns.
    key
        Of the film's random generator.
    view
        CC, or MLO with the pectoral muscle in the upper corner.
    is_right
        Whether the chest wall is at the right edge.
    """
    random = np.random.default_rng(key)
    breast = _Breast(height, random, view)
    film = breast.tissue(Chance([key]))
    _add_distractors(film, breast, random)
    masks = []
    for lesion in lesions:
        shape = np.random.default_rng((lesion.key, *key))
        place = breast.place(lesion.extent, random)
        masks.append(_draw_mass(film, breast, lesion, place, shape) if lesion.kind == "mass"
                     else _draw_calcifications(film, breast, lesion, place, shape))  # fmt: skip
    film += np.float32(0.012) * random.standard_normal(film.shape, np.float32)
    film = np.clip(film, 0, 0.92)
    _add_marker(film)
    if is_right:
        film, masks = film[:, ::-1], [mask[:, ::-1] for mask in masks]
    return np.ascontiguousarray(film, np.float32), [np.ascontiguousarray(mask) for mask in masks]


class _Breast:
    """Outline and coordinates of the breast on one film."""

    def __init__(self, height: int, random: np.random.Generator, view: str) -> None:
        rows = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
        columns = (np.arange(round(ASPECT * height), dtype=np.float32) + 0.5) / height
        self.y, self.x = rows[:, np.newaxis], columns[np.newaxis]
        self.depth = random.uniform(0.42, 0.60)
        self.half_height = random.uniform(0.34, 0.45)
        self.middle = random.uniform(-0.03, 0.05)
        self.density = random.uniform(0.3, 1.0)
        self.pectoral = random.uniform(0.12, 0.24) if view == "MLO" else 0.0

    def tissue(self, chance: Chance) -> Grey:
        """Fat, glandular tissue behind the nipple, skin line and muscle, rough on every scale."""
        size = len(self.y)
        radius = (self.x / self.depth) ** 2 + ((self.y - self.middle) / self.half_height) ** 2
        rough = np.zeros((size, self.x.shape[1]), np.float32)
        for cells, weight in _TEXTURES:
            rough += np.float32(weight) * chance.texture(cells, size)[0, :, : rough.shape[1]]
        gland = hill(((self.x - 0.45 * self.depth) / (0.7 * self.depth)) ** 2 + ((self.y - self.middle) / 0.32) ** 2)
        level = 0.30 + self.density * gland * (0.20 + 2.0 * rough) + rough
        # Compressed tissue thins out towards the skin.
        film = level * edge(1 - radius, 0.45) + 0.10 * edge(1 - radius, 0.02)
        if self.pectoral:
            muscle = edge(self.pectoral - self.x - 0.45 * (self.y + 0.5), 0.015)
            film = film + muscle * (0.62 + rough - film) * edge(1 - radius, 0.1)
        return film.astype(np.float32)

    def place(self, margin: float, random: np.random.Generator) -> tuple[float, float]:
        """A point of the breast, x and y, at least `margin` from its outline."""
        angle, share = random.uniform(-np.pi / 2, np.pi / 2), np.sqrt(random.uniform(0.02, 0.72))
        x = share * np.cos(angle) * (self.depth - margin)
        return max(x, 1.2 * margin), self.middle + share * np.sin(angle) * (self.half_height - margin)

    def window(self, place: tuple[float, float], reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` of a point."""
        size = len(self.y)
        row, column = (place[1] + 0.5) * size, place[0] * size
        first = [max(0, int(centre - reach * size)) for centre in (row, column)]
        return slice(first[0], int(row + reach * size) + 2), slice(first[1], int(column + reach * size) + 2)

    def around(self, window: tuple[slice, slice], place: tuple[float, float]) -> tuple[Grey, Grey]:
        """Distance from a point and direction to it, of the pixels of a window."""
        x, y = self.x[:, window[1]] - np.float32(place[0]), self.y[window[0]] - np.float32(place[1])
        return np.hypot(x, y), np.arctan2(y, x)


def _draw_mass(
    film: Grey, breast: _Breast, lesion: PhantomLesion, place: tuple[float, float], random: np.random.Generator
) -> NDArray[np.bool_]:
    """A dense body: smooth and sharp where benign, irregular with spicules where malignant."""
    window = breast.window(place, 2.2 * lesion.extent)
    distance, angle = breast.around(window, place)
    unevenness = 0.20 if lesion.is_malignant else 0.05
    outline = np.ones_like(distance)
    for waves in range(2, 7):
        outline += unevenness / waves**0.5 * random.uniform(0.3, 1) * np.cos(waves * angle + random.uniform(0, 6.28))
    relative = distance / (lesion.extent * outline)
    body = edge(1 - relative, 0.5 if lesion.is_malignant else 0.25) * (1 - 0.35 * np.minimum(relative, 1) ** 2)
    if lesion.is_malignant:
        rays = np.cos(random.integers(9, 15) * angle + random.uniform(0, 6.28)) ** 8
        body = np.maximum(body, 0.55 * rays * edge(1 - distance / (2.0 * lesion.extent), 0.9))
    film[window] += np.float32(lesion.contrast) * body
    mask = np.zeros(film.shape, bool)
    mask[window] = relative <= 1
    return mask


def _draw_calcifications(
    film: Grey, breast: _Breast, lesion: PhantomLesion, place: tuple[float, float], random: np.random.Generator
) -> NDArray[np.bool_]:
    """A cluster of bright specks: few and alike where benign, many of uneven size and shape where malignant."""
    low, high = (9, 22) if lesion.is_malignant else (5, 11)
    for _ in range(random.integers(low, high)):
        share, angle = np.sqrt(random.uniform(0, 1)), random.uniform(0, 6.28)
        reach = 0.9 * lesion.extent * share
        speck = (place[0] + reach * np.cos(angle), place[1] + reach * np.sin(angle))
        uneven = random.uniform(0.5, 1.6) if lesion.is_malignant else random.uniform(0.9, 1.1)
        _draw_speck(film, breast, speck, 0.0022 * uneven, lesion.contrast * random.uniform(0.7, 1.2), random)
    window = breast.window(place, 1.2 * lesion.extent)
    mask = np.zeros(film.shape, bool)
    mask[window] = breast.around(window, place)[0] <= lesion.extent
    return mask


def _draw_speck(
    film: Grey,
    breast: _Breast,
    place: tuple[float, float],
    radius: float,
    contrast: float,
    random: np.random.Generator,
) -> None:
    window = breast.window(place, 3 * radius)
    distance, angle = breast.around(window, place)
    stretched = distance * (1 + 0.4 * np.cos(2 * angle + random.uniform(0, 6.28)))
    film[window] += np.float32(contrast) * hill((stretched / (1.8 * radius)) ** 2)


def _add_distractors(film: Grey, breast: _Breast, random: np.random.Generator) -> None:
    """What normal tissue has too: dense islands without a margin, vessels, single round calcifications."""
    for _ in range(random.integers(4, 10)):
        place, extent = breast.place(0.03, random), random.uniform(0.02, 0.06)
        window = breast.window(place, 2 * extent)
        distance, angle = breast.around(window, place)
        stretched = distance * (1 + 0.5 * np.cos(2 * angle + random.uniform(0, 6.28)))
        film[window] += np.float32(random.uniform(0.04, 0.14)) * hill((stretched / (1.5 * extent)) ** 2)
    for _ in range(random.integers(3, 7)):
        _draw_vessel(film, breast, random)
    for _ in range(random.integers(2, 7)):
        _draw_speck(film, breast, breast.place(0.02, random), 0.0024, random.uniform(0.1, 0.4), random)


def _draw_vessel(film: Grey, breast: _Breast, random: np.random.Generator) -> None:
    """A curved band of even width."""
    place, reach = breast.place(0.05, random), random.uniform(0.06, 0.16)
    window = breast.window(place, reach)
    x, y = breast.x[:, window[1]] - np.float32(place[0]), breast.y[window[0]] - np.float32(place[1])
    turn, bend = random.uniform(0, np.pi), random.uniform(-3, 3)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    band = edge(0.0030 - np.abs(across - bend * along**2), 0.004) * edge(reach - np.hypot(x, y), 0.6 * reach)
    film[window] += np.float32(random.uniform(0.04, 0.12)) * band


def _add_marker(film: Grey) -> None:
    """The bright label beside the breast: the film's white, so that grey levels do not depend on its lesions."""
    size = len(film)
    film[size // 40 : size // 16, -size // 8 : -size // 30] = 1.0
