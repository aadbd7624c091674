"""DICOM films to grey pixels, as a viewer would show them. docs/dicom.md has what is read, ignored and refused."""

from __future__ import annotations

import io
import warnings
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from .bad_film import BadFilm, check_pixel_count
from .dicom_frame import stored_values
from .grey_scale import GREY_SCALE_ELEMENTS, show

_PIXEL_ELEMENTS = (
    "SOPClassUID",
    "PresentationIntentType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_FOR_PROCESSING = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{kind}"
    for kind in ("1.1.1", "1.2.1", "1.3.1")  # digital x-ray, mammography, intra-oral
)


def decode_dicom(content: bytes) -> NDArray[np.uint8]:
    """Decode one monochrome frame to grey uint8 [H, W], bright for dense tissue; raises `BadFilm` with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every oddity; what matters here is checked below
            film = _read(io.BytesIO(content), stop_before_pixels=False)
            _check_header(film)
            return show(film, stored_values(film))
    except (BadFilm, MemoryError):
        raise
    except Exception as error:  # pydicom and its decoders raise nearly anything for bytes that break the standard
        reason = " ".join(str(error).split())  # on many lines, the first of which does not tell it
        raise BadFilm(f"damaged DICOM: {reason}") from error


def read_dicom_shape(file: BinaryIO) -> tuple[int, int]:
    """Read rows and columns from the header alone; raises `BadFilm` for what is not a DICOM image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = _read(file, stop_before_pixels=True)
        rows, columns = _required(header, "Rows"), _required(header, "Columns")
        check_pixel_count(columns, rows)
        return rows, columns
    except BadFilm:
        raise
    except Exception as error:  # as above
        raise BadFilm(f"damaged DICOM: {error}") from error


def _read(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """Read the elements that are wanted; what a film says that it is is asked of its parsed file meta information.

    A film without preamble and meta information is taken for what pydicom finds it written as.
    """
    read_preamble(file, force=True)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_meta)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise BadFilm("deflated DICOM is not read: its size cannot be known before it is unpacked")
    file.seek(0)
    wanted: list[Any] = [*_PIXEL_ELEMENTS, *GREY_SCALE_ELEMENTS]
    film = pydicom.dcmread(file, force=True, specific_tags=wanted, stop_before_pixels=stop_before_pixels)
    if "TransferSyntaxUID" not in film.file_meta:
        is_implicit, is_little_endian = film.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        film.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return film


def _is_behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001  (pydicom's signature)
    return tag.group != 2


def _check_header(film: Dataset) -> None:
    """Refuse what is no single monochrome film of reasonable size, before any pixel is decoded."""
    if "PixelData" not in film:
        raise BadFilm("DICOM without pixel data")
    frames = int(film.get("NumberOfFrames") or 1)
    if frames != 1:
        raise BadFilm(f"multi-frame DICOM: {frames} frames, expected one")
    samples, photometric = _required(film, "SamplesPerPixel"), film.get("PhotometricInterpretation", "missing")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadFilm(f"colour DICOM: {photometric} with {samples} samples a pixel, expected MONOCHROME1 or 2")
    allocated, stored = _required(film, "BitsAllocated"), _required(film, "BitsStored")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise BadFilm(f"DICOM of {stored} bits stored in {allocated}, expected 8 to 16")
    high_bit = _required(film, "HighBit")
    if high_bit != stored - 1:  # PS3.5, 8.1.1 wants it so; pydicom would cut off the brightest bits
        raise BadFilm(f"DICOM whose {stored} bits end at bit {high_bit}, expected {stored - 1}")
    if _required(film, "PixelRepresentation") not in (0, 1):
        raise BadFilm(f"DICOM of PixelRepresentation {film.PixelRepresentation}, expected 0 or 1")
    check_pixel_count(_required(film, "Columns"), _required(film, "Rows"))
    intent = film.get("PresentationIntentType") or ""
    if intent == "FOR PROCESSING" or (not intent and film.get("SOPClassUID") in _FOR_PROCESSING):
        raise BadFilm("FOR PROCESSING DICOM holds what the detector measured; export the view as FOR PRESENTATION")


def _required(film: Dataset, keyword: str) -> int:
    value = film.get(keyword)
    if value is None:
        raise BadFilm(f"damaged DICOM: it has no {keyword}")
    return int(value)
