"""What phantoms are drawn with: reproducible chance per film, soft shapes, textures, shading.

Maps are float32 [films, height, width]; quantities of a film are [films, 1, 1], so that they broadcast over its map.
Shapes use polynomials in place of exponentials: cheaper, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]

EDGE = 0.02
"""Usual width of a drawn edge, in half film widths."""


class Chance:
    """One random generator per film, drawn from in step.

    A film's values depend on its own key alone, never on the films that are drawn with it.
    """

    def __init__(self, keys: Sequence[tuple[int, ...]]) -> None:
        self._generators = [np.random.default_rng(key) for key in keys]

    def between(self, low: float, high: float) -> Map:
        """Draw uniform values in [low, high), as [films, 1, 1]."""
        return _per_film([low + (high - low) * generator.random() for generator in self._generators])

    def around(self, mean: float, deviation: float) -> Map:
        """Draw normal values within two standard deviations of their mean, as [films, 1, 1]."""
        draws = [generator.standard_normal() for generator in self._generators]
        return _per_film([mean + deviation * min(max(draw, -2.0), 2.0) for draw in draws])

    def happens(self, probability: float) -> Map:
        """Draw 1 with the given probability, else 0, as [films, 1, 1]."""
        return _per_film([float(generator.random() < probability) for generator in self._generators])

    def side(self) -> Map:
        """Draw -1 (the patient's right, on the left of the film) or +1, as [films, 1, 1]."""
        return 2 * self.happens(0.5) - 1

    def texture(self, cells: int, size: int) -> Map:
        """Draw smooth noise with `cells` grains across the film, mean 0 and deviation about 1, as [films, size, size].

        The grains are the same at every `size`: a film keeps its texture at any resolution.
        """
        shape = (cells + 3, cells + 3)
        coarse = np.stack([generator.standard_normal(shape, dtype=np.float32) for generator in self._generators])
        return _spline(_spline(coarse, size).swapaxes(1, 2), size).swapaxes(1, 2) * np.float32(2.1)

    def grain(self, size: int) -> Map:
        """Draw independent standard normal noise per pixel, as [films, size, size]."""
        return np.stack([generator.standard_normal((size, size), dtype=np.float32) for generator in self._generators])


def edge(distance: Map, width: float | Map = EDGE) -> Map:
    """Fade from 0 outside (negative distance) to 1 inside, with a smooth step of the given width around distance 0."""
    step = distance / width
    step += 0.5
    np.clip(step, 0, 1, out=step)
    return step * step * (3 - 2 * step)


def hill(squared_radius: Map) -> Map:
    """Draw a bell: 1 where the squared radius is 0, down to 0 where it is 1 and beyond."""
    bell = np.clip(1 - squared_radius, 0, 1)
    return bell * bell


def ridges(phase: Map, width: float | Map) -> Map:
    """Draw parallel bands, one per unit of phase, each `width` of a unit wide."""
    from_middle = np.abs(phase - np.floor(phase) - np.float32(0.5))
    return edge(width / 2 - from_middle, 0.18)


def stroke(along: Map, across: Map, length: Map, thickness: Map) -> Map:
    """Draw a straight bar with soft ends, given the coordinates along and across it and its half extents."""
    return edge(thickness - np.abs(across), thickness) * edge(length - np.abs(along), length / 2)


def shade(picture: Map, opacity: Map, level: float | Map) -> Map:
    """Draw the picture towards a grey level; opacity 0 leaves it, 1 covers it."""
    return picture + opacity * (level - picture)


def _per_film(values: list[float]) -> Map:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def _spline(coarse: Map, size: int) -> Map:
    """Uniform cubic B-spline through axis 1: [films, cells + 3, k] -> [films, size, k]."""
    cells = coarse.shape[1] - 3
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    cell = position.astype(np.intp)
    t = (position - np.floor(position))[None, :, None]
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    smooth = weights[0] * coarse[:, cell]
    for offset in (1, 2, 3):
        smooth = smooth + weights[offset] * coarse[:, cell + offset]
    return smooth / np.float32(6)
