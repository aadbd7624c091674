"""The one frame of a DICOM film: held to the size that the header announces, then decoded to stored values."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from .bad_film import BadFilm
from .codestreams import CODESTREAM_SIGNATURE, JP2_SIGNATURE, JPEG_SIGNATURE, read_jpeg_2000_frame, read_jpeg_frame

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)

_FRAME_SIGNATURES = (JPEG_SIGNATURE, CODESTREAM_SIGNATURE, JP2_SIGNATURE)
_END_OF_IMAGE = b"\xff\xd9"
_LONGEST_RUN = 128


def stored_values(film: Dataset) -> NDArray[np.integer]:
    """Decode the frame to stored values [H, W], signed or not, of 8 or 16 bits.

    Raises `BadFilm` for a transfer syntax that is not read, for anything but one frame of the header's size, and for
    frames that are cut short; and what pydicom and its decoders raise for damaged ones.
    """
    syntax = film.file_meta.TransferSyntaxUID
    if syntax in _NATIVE:
        _check_length(film)
        return pixel_array(film, view_only=True)  # a copy of 50 MB less
    if syntax == RLELossless:
        _check_run_lengths(film, _only_frame(film))
    elif syntax in (*_JPEG, *_JPEG_2000):
        _check_codestream(film, _only_frame(film))
    else:
        raise BadFilm(f"DICOM of transfer syntax {syntax.name}, which is not read")
    # The plugin for RLE panics on damaged frames, and a panic is no Exception; pydicom's own decoder raises.
    return pixel_array(film, decoding_plugin="pydicom" if syntax == RLELossless else "pylibjpeg", view_only=True)


def _check_length(film: Dataset) -> None:
    """Refuse pixel data of any other length than the header's: the picture would be sheared, or one of several."""
    given, expected = len(film.PixelData), film.Rows * film.Columns * film.BitsAllocated // 8
    if given not in (expected, expected + expected % 2):  # padded to an even length
        size = f"{film.Columns}x{film.Rows} pixels of {film.BitsAllocated} bits"
        raise BadFilm(f"damaged DICOM: {given:,} bytes of pixel data, expected {expected:,} for {size}")


def _only_frame(film: Dataset) -> bytes:
    """Return the compressed frame; raises `BadFilm` where there are several, whatever the header says."""
    offsets = len(film.get("ExtendedOffsetTable") or b"") // 8 or len(parse_basic_offsets(film.PixelData))
    _, *fragments = generate_fragments(film.PixelData)  # the first is the table of offsets
    if film.file_meta.TransferSyntaxUID == RLELossless:
        starts = len(fragments)  # a frame each (PS3.5, annex A.4.2)
    else:
        starts = sum(fragment.startswith(_FRAME_SIGNATURES) for fragment in fragments)
    frames = max(offsets, starts)
    if frames > 1:
        raise BadFilm(f"multi-frame DICOM: {frames} compressed frames, expected one")
    return get_frame(film.PixelData, 0, number_of_frames=1)


def _check_codestream(film: Dataset, frame: bytes) -> None:
    """Refuse a frame that is cut short, or announces another size than the header: decoders believe it."""
    if film.file_meta.TransferSyntaxUID in _JPEG_2000:
        announced = read_jpeg_2000_frame(frame)
    elif frame.startswith(JPEG_SIGNATURE):
        announced = read_jpeg_frame(frame)
    else:
        raise BadFilm("DICOM whose compressed frame is not JPEG")
    expected = f"DICOM header says {film.Columns}x{film.Rows} pixels"
    if (announced.width, announced.height) != (film.Columns, film.Rows):
        raise BadFilm(f"{expected}, its compressed frame {announced.width}x{announced.height}")
    if announced.components != 1 or announced.bits > film.BitsAllocated:
        found = f"{announced.components} samples of {announced.bits} bits"
        raise BadFilm(f"{expected} of {film.BitsAllocated} bits, its compressed frame {found}")
    if not frame.rstrip(b"\0\xff").endswith(_END_OF_IMAGE):  # frames are padded to an even length
        raise BadFilm("truncated DICOM: its compressed frame has no end marker")


def _check_run_lengths(film: Dataset, frame: bytes) -> None:
    """Refuse run lengths that make more than the film's pixels: 2 bytes may make 128 (PS3.5, annex G)."""
    planes, *offsets = struct.unpack_from("<16L", frame)
    if planes != film.BitsAllocated // 8:
        raise BadFilm(f"DICOM of {planes} run-length planes, expected {film.BitsAllocated // 8}")
    for start, stop in pairwise([*offsets[:planes], len(frame)]):
        inflated = _inflated_length(frame[start:stop], film.Rows * film.Columns + _LONGEST_RUN)
        if inflated > film.Rows * film.Columns + _LONGEST_RUN:
            raise BadFilm(f"DICOM whose run lengths make more than its {film.Columns}x{film.Rows} pixels")


def _inflated_length(plane: bytes, limit: int) -> int:
    """Count the bytes that run lengths make, as far as the limit."""
    position = inflated = 0
    while position < len(plane) and inflated <= limit:
        control = plane[position]
        if control < 128:
            inflated += control + 1
            position += control + 2
        else:
            inflated += 257 - control if control > 128 else 0
            position += 2 if control > 128 else 1
    return inflated
