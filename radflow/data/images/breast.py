"""The breast on a mammogram: told from background and labels, cut out, and turned so that the chest wall is left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BACKGROUND_BELOW = 20
"""Grey level under which film is background.

On mini-MIAS and CBIS-DDSM the share of pixels under a level climbs steeply until about 10 (unexposed film and its
noise) and is nearly flat from 16 to 32, where the skin line begins.
"""

_CELL = 8
"""Side in pixels of the cells in which the breast is sought: noise averages out, labelling is 64 times cheaper."""

_SKIN_CELLS = 3
"""Cells around the breast that stay: the skin line is fainter than `BACKGROUND_BELOW`."""

_LEAST_SHARE = 0.05
"""Share of the broadest row or column of the breast that one at its end must hold."""

_CHEST_WALL_SHARE = 0.2
"""Share of the breast's width, at either side, in which it is looked whether the breast is broad there."""


def breast_mask(film: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell breast from background: the largest connected region that is not darker than `BACKGROUND_BELOW`.

    Labels and scratches are bright too, but not connected with the breast. All false for a black film.
    """
    return _pixels_of(_breast_cells(film), film.shape)


def cut_breast(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the box of the breast out of a film, black around it, and mirror one whose chest wall is on the right.

    The breast is broad at the chest wall and narrow at the nipple. A film on which there is nothing stays as it is.
    """
    from scipy import ndimage

    cells = _breast_cells(film)
    if not cells.any():
        return film
    breast = _pixels_of(cells, film.shape)
    box = tuple(_extent(breast.sum(axis=axis)) for axis in (1, 0))
    near = _pixels_of(ndimage.binary_dilation(cells, iterations=_SKIN_CELLS), film.shape)
    cut = np.where(near, film, 0)[box]
    heights = breast[box].sum(axis=0)
    side = max(1, round(_CHEST_WALL_SHARE * len(heights)))
    is_mirrored = heights[-side:].sum() > heights[:side].sum()
    return np.ascontiguousarray(cut[:, :: -1 if is_mirrored else 1])


def _breast_cells(film: NDArray[np.uint8]) -> NDArray[np.bool_]:
    from scipy import ndimage  # takes longer to import than a film takes to decode

    regions, count = ndimage.label(np.asarray(Image.fromarray(film).reduce(_CELL)) >= BACKGROUND_BELOW)
    if not count:
        return np.zeros(regions.shape, bool)
    return np.asarray(regions == 1 + int(np.argmax(np.bincount(regions.ravel())[1:])))


def _pixels_of(cells: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return cells.repeat(_CELL, axis=0).repeat(_CELL, axis=1)[: shape[0], : shape[1]]


def _extent(counts: NDArray[np.integer]) -> slice:
    """Where rows or columns hold breast, but for those at the ends that hold next to none: scatter along an edge."""
    places = np.flatnonzero(counts >= _LEAST_SHARE * counts.max())
    return slice(int(places[0]), int(places[-1]) + 1)
