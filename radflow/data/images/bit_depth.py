"""The one rule of bit depth: which stored values are black and white, whatever the format of the film.

- Values of up to 8 bits are taken as they are stored; of fewer than 8, the largest possible is white.
- A declared depth counts where it is smaller than the 16 bits of its container: sBIT of a PNG, maxval of a PGM,
  BitsPerSample of a TIFF, the precision of JPEG 2000, BitsStored of DICOM.
- Otherwise the container says nothing, since detectors of 8 to 15 bits are commonly saved in 16. The depth is then
  the smallest of 8 to 16 bits that holds all but the brightest thousandth of the pixels. So neither a hot pixel nor
  how bright the film is within its depth changes its grey levels. Of 1,735 real films in full range, none has fewer
  than 3 % of its pixels in the brighter half of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONTAINER_BITS = 16
"""A declared depth of as many bits says no more than how values are stored."""

PIXELS_AN_OUTLIER = 1000
"""One pixel of so many may be brighter than white."""

_ROWS_AT_ONCE = 256


def value_range(values: NDArray[np.integer], bits: int = CONTAINER_BITS) -> tuple[int, int]:
    """Return what means black and white among integers of `bits` declared bits, of which those of 16 are a guess.

    Values of a signed type have a signed range, unless they are to be guessed and hardly any of them is negative.
    """
    if bits < CONTAINER_BITS:
        black = -(1 << (bits - 1)) if values.dtype.kind == "i" else 0
        return black, black + (1 << bits) - 1
    if not values.size:
        return 0, (1 << CONTAINER_BITS) - 1
    return _guessed_range(values)


def fits(values: NDArray[np.integer], white: int) -> bool:
    """Whether no more than a thousandth of the values is above white."""
    return int(np.count_nonzero(values > white)) <= values.size // PIXELS_AN_OUTLIER


def scale_to_grey(values: NDArray[np.integer], black: int, white: int) -> NDArray[np.uint8]:
    """Scale integers of 8 or 16 bits to 0 for black and 255 for white; those outside are clipped."""
    return look_up((every_value(values.dtype) - float(black)) / (white - black), values)


def every_value(dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    """Every value of an integer type of 8 or 16 bits, in the order of its bits taken as an unsigned number."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << (8 * dtype.itemsize), dtype=unsigned).view(dtype.newbyteorder("="))


def look_up(levels: NDArray[np.floating], values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Give each value its grey from the levels of `every_value`, where 0 is black and 1 is white.

    By blocks of rows: a film as indices is 8 times its size.
    """
    table = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    index = values.astype(values.dtype.newbyteorder("="), copy=False).view(f"u{values.dtype.itemsize}")
    grey = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        grey[rows] = table[index[rows]]
    return grey


def _guessed_range(values: NDArray[np.integer]) -> tuple[int, int]:
    """Black and white of 16-bit values of unknown depth.

    Negative ones begin where the signed range of the depth begins, if they lie in it, and at the darkest pixel if not.
    """
    black = 0
    if values.dtype.kind == "i":
        outliers = values.size // PIXELS_AN_OUTLIER
        black = min(0, int(np.partition(values, outliers, axis=None)[outliers]))
    depths = range(8, CONTAINER_BITS)
    bits = next((bits for bits in depths if fits(values, black + (1 << bits) - 1)), CONTAINER_BITS)
    half = 1 << (bits - 1)
    if -half <= black < 0 and fits(values, half - 1):
        black = -half
    return black, black + (1 << bits) - 1
