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

_CHEST_WALL_SHARE = 0.2
"""Share of the breast's width, at either side, in which it is looked whether the breast is broad there."""


def breast_mask(film: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell breast from background: the largest connected region that is not darker than `BACKGROUND_BELOW`.

    Labels and scratches are bright too, but not connected with the breast. All false for a black film.
    """
    from scipy import ndimage  # takes longer to import than a film takes to decode

    cells = np.asarray(Image.fromarray(film).reduce(_CELL)) >= BACKGROUND_BELOW
    regions, count = ndimage.label(cells)
    if not count:
        return np.zeros(film.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    breast = (regions == largest).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return breast[: film.shape[0], : film.shape[1]]


def cut_breast(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the box of the breast out of a film, and mirror a breast whose chest wall is on the right.

    The breast is broad at the chest wall and narrow at the nipple. A film on which there is nothing stays as it is.
    """
    breast = breast_mask(film)
    if not breast.any():
        return film
    rows, columns = (np.flatnonzero(breast.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    heights = breast[box].sum(axis=0)
    side = max(1, round(_CHEST_WALL_SHARE * len(heights)))
    is_mirrored = heights[-side:].sum() > heights[:side].sum()
    return np.ascontiguousarray(film[box][:, :: -1 if is_mirrored else 1])
