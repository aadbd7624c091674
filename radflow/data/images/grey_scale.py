"""The grey-scale chain of DICOM: modality, values of interest, presentation (PS3.4 N.2; PS3.3 C.11.1, C.11.2, C.11.4).

A stored value has at most 16 bits, so the chain is worked out once for each of the 65,536 and then looked up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from .bad_film import BadFilm
from .bit_depth import CONTAINER_BITS, every_value, look_up, value_range

GREY_SCALE_ELEMENTS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTSequence",
    "PresentationLUTShape",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""What the chain reads, beside what a frame is decoded by."""

_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_GREY_SCALE_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")

Values = NDArray[np.float64]


class Table(NamedTuple):
    """A lookup table: its values, the input that the first is for, and the value that is white."""

    values: Values
    first: int
    white: int

    def at(self, inputs: Values) -> Values:
        """Look up values as far as the table goes; beyond its ends are its first and its last."""
        index = np.clip(np.rint(inputs) - self.first, 0, len(self.values) - 1)
        return self.values[index.astype(np.int64)]


def show(film: Dataset, stored: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Take stored values [H, W] through the chain to grey uint8 [H, W], black where the film is padded.

    Raises `BadFilm` for a transformation that the standard does not have.
    """
    _merge_functional_groups(film)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    every = every_value(stored.dtype)
    is_padding = _is_padding(film, every)
    values = _modality_values(film, every)
    levels = _levels_of_interest(film, values)
    if levels is None:
        levels = _levels_of_range(film, values, stored, is_padding)
    levels = _presented(film, np.clip(levels, 0, 1))
    return look_up(np.where(is_padding, 0, levels), stored)


def _merge_functional_groups(film: Dataset) -> None:
    """Bring the grey scale of an enhanced image, which has it in functional groups, to where others have it."""
    for groups in _FUNCTIONAL_GROUPS:
        for item in (film.get(groups) or [])[:1]:
            for macro in _GREY_SCALE_MACROS:
                film.update((item.get(macro) or [Dataset()])[0])


def _is_padding(film: Dataset, every: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which values stand for no part of the film (PS3.3 C.7.5.1.1.2), however their sign was written."""
    given = film.get("PixelPaddingValue")
    if not isinstance(given, int):
        return np.zeros(every.shape, bool)
    limit = film.get("PixelPaddingRangeLimit")
    ends = np.array([given, limit if isinstance(limit, int) else given])
    ends = ends.astype(f"{every.dtype.kind}2")  # 65536 - n and -n have the same bits
    return (every >= ends.min()) & (every <= ends.max())


def _modality_values(film: Dataset, every: NDArray[np.integer]) -> Values:
    """Apply the modality table or else the rescaling (PS3.3 C.11.1)."""
    values = every.astype(np.float64)
    if film.get("ModalityLUTSequence"):
        return _table(film, film.ModalityLUTSequence[0], lowest=int(every.min())).at(values)
    slope, intercept = _number(film, "RescaleSlope"), _number(film, "RescaleIntercept")
    if slope == 0:
        raise BadFilm("DICOM of RescaleSlope 0, expected any other number")
    return values * (1 if slope is None else slope) + (intercept or 0)


def _levels_of_interest(film: Dataset, values: Values) -> Values | None:
    """Apply the first table or else the first window, to 0 for black and 1 for white; None where there is neither.

    PS3.3 C.11.2.1.1 has the tables, C.11.2.1.2 and C.11.2.1.3 have the windows.
    """
    if film.get("VOILUTSequence"):
        table = _table(film, film.VOILUTSequence[0], lowest=int(values.min()))
        return table.at(values) / table.white
    center, width = _number(film, "WindowCenter"), _number(film, "WindowWidth")
    if center is None or width is None:
        return None
    function = str(film.get("VOILUTFunction") or "LINEAR").strip().upper()
    least = {"LINEAR": 1.0, "LINEAR_EXACT": math.ulp(0.0), "SIGMOID": math.ulp(0.0)}.get(function)
    if least is None:
        raise BadFilm(f"DICOM of VOILUTFunction {function}, expected LINEAR, LINEAR_EXACT or SIGMOID")
    if width < least:
        raise BadFilm(f"DICOM of WindowWidth {width:g}, expected at least 1, or above 0 where it is not LINEAR")
    with np.errstate(over="ignore"):
        if function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - center) / width))
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
        return (values - center) / width + 0.5


def _levels_of_range(
    film: Dataset, values: Values, stored: NDArray[np.integer], is_padding: NDArray[np.bool_]
) -> Values:
    """Scale to what the modality transformation makes of the range of stored values (bit_depth.py), or of its table."""
    if film.get("ModalityLUTSequence"):
        return values / _table(film, film.ModalityLUTSequence[0], lowest=0).white
    unsigned = f"u{stored.itemsize}"
    if film.BitsStored == CONTAINER_BITS and is_padding.any():  # the range is a guess
        stored = stored[~is_padding[stored.view(unsigned)]]
    ends = values[np.array(value_range(stored, film.BitsStored)).astype(stored.dtype).view(unsigned)]
    return (values - ends.min()) / (ends.max() - ends.min())


def _presented(film: Dataset, levels: Values) -> Values:
    """Apply the presentation table or shape. A shape says whether to invert; without one, MONOCHROME1 does.

    PS3.3 C.11.4 has the table. C.8.11.3.1.2 has the shape: for MONOCHROME1 it is INVERSE, which inverts once.
    """
    if film.get("PresentationLUTSequence"):
        table = _table(film, film.PresentationLUTSequence[0], lowest=0)
        return table.at(levels * (len(table.values) - 1)) / table.white
    shape = str(film.get("PresentationLUTShape") or "").strip().upper()
    if shape not in ("", "IDENTITY", "INVERSE"):
        raise BadFilm(f"DICOM of PresentationLUTShape {shape}, expected IDENTITY or INVERSE")
    inverted = shape == "INVERSE" if shape else film.PhotometricInterpretation == "MONOCHROME1"
    return 1 - levels if inverted else levels


def _table(film: Dataset, item: Dataset, lowest: int) -> Table:
    """Read a lookup table for inputs from `lowest` on (PS3.3 C.11.1.1 and C.11.2.1.1).

    Its first input may be negative and yet be written as unsigned. Its depth is taken from the values where they do
    not fit in the declared one, or where that is the 16 bits of the words that hold them.
    """
    entries, first, declared = (int(number) & 0xFFFF for number in _words(film, item.LUTDescriptor)[:3])
    entries = entries or 1 << 16
    first -= (1 << 16) if first >= 1 << 15 and lowest < 0 else 0
    values = _table_values(film, item.LUTData, entries)
    needed = max(8, int(values.max()).bit_length())
    bits = declared if needed <= declared < 16 else needed
    return Table(values.astype(np.float64), first, (1 << bits) - 1)


def _table_values(film: Dataset, data: object, entries: int) -> NDArray[np.integer]:
    """Return as many values as the table has, in words, or in bytes of which a word has two."""
    words = _words(film, data)
    if len(words) >= entries:
        return words[:entries]
    halves = words.astype("<u2").view(np.uint8)
    if len(halves) >= entries:
        return halves[:entries]
    raise BadFilm(f"DICOM lookup table of {len(words)} words, expected {entries:,} entries")


def _words(film: Dataset, data: object) -> NDArray[np.uint16]:
    """Unsigned words of an element that pydicom gives as numbers, or as bytes where it is written as OW."""
    if isinstance(data, bytes):
        order = "<u2" if film.original_encoding[1] else ">u2"
        return np.frombuffer(data + b"\0" * (len(data) % 2), order).astype(np.uint16)
    return np.atleast_1d(np.asarray(data, np.int64)).astype(np.uint16)


def _number(film: Dataset, keyword: str) -> float | None:
    """Return the first number of an element, or None where it is absent or empty; raises `BadFilm` for nan."""
    value = film.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value is None or value == "":
        return None
    if not math.isfinite(float(value)):
        raise BadFilm(f"DICOM of {keyword} {value}, expected a number")
    return float(value)
