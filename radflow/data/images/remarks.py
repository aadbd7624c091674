"""What is odd about a film that could be read, said beside its prediction: a classifier answers whatever it is given.

Saved models carry this file.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_CONTRAST = 16
"""Grey levels, of 255, between the first and the last hundredth of the pixels; real films have over 100."""

MOST_COLOUR = 8
"""Mean difference, of 255, between a pixel's largest and smallest colour; what JPEG makes of grey stays below 4."""

LONGEST_SIDE = 1.35
"""Longest side of a frontal film, in shorter ones; frontal chest films of common detectors have up to 1.25."""

_COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")
_PIXELS_LOOKED_AT = 2**13
_THUMBNAIL = (128, 128)


class Remark(NamedTuple):
    """What there is to say of a film beside its prediction."""

    text: str
    """What makes it unlikely to be a frontal radiograph, in a line; empty where it may well be one."""
    is_blank: bool
    """Whether there is nothing on it that a classifier could judge."""


def remark_on(film: NDArray[np.uint8], content: bytes = b"") -> Remark:
    """Look for what makes a film unlikely to be a frontal radiograph.

    Parameters
    ----------
    film
        Grey pixels [H, W] in the film's own size.
    content
        The file that they were decoded from, for its colours; empty where there is none.
    """
    height, width = film.shape
    contrast, remarks = _contrast(film), []
    if is_blank := contrast < LEAST_CONTRAST:
        remarks.append(f"no contrast: nearly all of it lies within {contrast + 1} of 256 grey levels")
    if _is_coloured(content):
        remarks.append("not grey: a colour picture")
    if max(width, height) > LONGEST_SIDE * min(width, height):
        remarks.append(f"{width}x{height} pixels, as of a lateral view or a part: frontal films are nearly square")
    return Remark("; ".join(remarks), is_blank)


def _contrast(film: NDArray[np.uint8]) -> int:
    step = max(1, int(np.sqrt(film.size / _PIXELS_LOOKED_AT)))
    low, high = np.percentile(film[::step, ::step], (1, 99), method="nearest")
    return int(high) - int(low)


def _is_coloured(content: bytes) -> bool:
    """Whether a file that was decoded well has colours; what Pillow cannot say is taken for grey."""
    with suppress(Exception), Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF", "JPEG2000")) as image:
        if image.mode in _COLOUR_MODES:
            image.draft("RGB", _THUMBNAIL)  # JPEG decodes to an eighth at no cost
            small = np.asarray(image.convert("RGB").resize(_THUMBNAIL, Image.Resampling.BOX), np.int16)
            return float(np.ptp(small, axis=-1).mean()) > MOST_COLOUR
    return False
