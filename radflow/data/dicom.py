"""DICOM films to grey pixels, as a viewer would show them."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, apply_windowing, pixel_array
from pydicom.uid import RLELossless

from .images import BadFilm, check_pixel_count

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_HEADER_BYTES = 4096
_END_OF_IMAGE = b"\xff\xd9"
_ROWS_AT_ONCE = 256


def decode_dicom(content: bytes) -> NDArray[np.uint8]:
    """Decode one monochrome frame to grey uint8 [H, W], bright for dense tissue; raises `BadFilm` with the reason.

    The modality transform (rescale slope and intercept, or its table) comes first, then the value-of-interest
    transform (table before window, the first of several), then MONOCHROME1 is inverted. Without a window, 8-bit
    pixels stay as they are and deeper ones are stretched from their smallest to their largest value, since many
    detectors use a part of the bits that they declare.
    """
    if _DEFLATED in content[:_META_HEADER_BYTES]:
        raise BadFilm("deflated DICOM is not read: its size cannot be known before it is unpacked")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every oddity; what matters here is checked below
            film = pydicom.dcmread(io.BytesIO(content))
            _check_header(film)
            _check_codestream(film)
            return _display_values(film)
    except BadFilm:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly anything for bytes that break the standard
        reason = " ".join(str(error).split())  # on many lines, the first of which does not tell it
        raise BadFilm(f"damaged DICOM: {reason}") from error


def read_dicom_shape(path: Path) -> tuple[int, int]:
    """Read rows and columns from the header alone; raises `BadFilm` for what is no DICOM image."""
    try:
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows), int(header.Columns)
    except Exception as error:  # as above
        raise BadFilm(f"damaged DICOM: {error}") from error


def _check_header(film: Dataset) -> None:
    """Refuse what is no single monochrome film of reasonable size, before any pixel is decoded."""
    if "PixelData" not in film:
        raise BadFilm("DICOM without pixel data")
    frames = int(film.get("NumberOfFrames") or 1)
    if frames != 1:
        raise BadFilm(f"multi-frame DICOM: {frames} frames, expected one")
    samples, photometric = int(film.get("SamplesPerPixel", 1)), film.get("PhotometricInterpretation", "missing")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadFilm(f"colour DICOM: {photometric} with {samples} samples a pixel, expected MONOCHROME1 or 2")
    allocated, stored = int(film.BitsAllocated), int(film.BitsStored)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise BadFilm(f"DICOM of {stored} bits stored in {allocated}, expected 8 to 16")
    if int(film.HighBit) != stored - 1:  # PS3.3 C.7.6.3.1.1 wants it so; pydicom would cut off the brightest bits
        raise BadFilm(f"DICOM whose {stored} bits end at bit {film.HighBit}, expected {stored - 1}")
    check_pixel_count(int(film.Columns), int(film.Rows))


def _check_codestream(film: Dataset) -> None:
    """Refuse a compressed frame that is cut short, or announces another size than the header: decoders believe it."""
    syntax = film.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == RLELossless:
        return
    frame = get_frame(film.PixelData, 0, number_of_frames=1)
    announced = _jpeg_2000_size(frame) or _jpeg_size(frame)
    if announced != (int(film.Columns), int(film.Rows)):
        found = f"{announced[0]}x{announced[1]}" if announced else "none"
        raise BadFilm(f"DICOM header says {film.Columns}x{film.Rows} pixels, its compressed frame {found}")
    if not frame.rstrip(b"\0\xff").endswith(_END_OF_IMAGE):  # frames are padded to an even length
        raise BadFilm("truncated DICOM: its compressed frame has no end marker")


def _jpeg_2000_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height from the size marker (ISO 15444-1, A.5.1), or None where there is none."""
    position = frame[:256].find(b"\xff\x4f\xff\x51")
    if position < 0:
        return None
    right, bottom, left, top = struct.unpack(">IIII", frame[position + 8 : position + 24])
    return right - left, bottom - top


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header of JPEG or JPEG-LS (ISO 10918-1, B.2.2), or None for other codings."""
    if not frame.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        is_frame_header = 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
        if is_frame_header or marker == 0xF7:
            height, width = struct.unpack(">HH", frame[position + 5 : position + 9])
            return width, height
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _display_values(film: Dataset) -> NDArray[np.uint8]:
    # The plugin for RLE panics on damaged frames, and a panic is no Exception; pydicom's own decoder raises.
    is_rle = film.file_meta.TransferSyntaxUID == RLELossless
    stored = pixel_array(film, decoding_plugin="pydicom" if is_rle else "", view_only=True)  # a copy of 50 MB less
    pixels = apply_modality_lut(stored, film)
    if film.get("VOILUTSequence"):
        shown, (black, white) = _look_up(film.VOILUTSequence[0], pixels)
    elif film.get("WindowCenter") is not None and film.get("WindowWidth") is not None:
        shown, (black, white) = apply_windowing(pixels, film), _window_range(film)
    elif film.BitsStored == 8 and pixels.dtype == np.uint8:
        shown, (black, white) = pixels, (0, 255)
    else:
        shown, (black, white) = pixels, _range_without_padding(film, stored, pixels)
    return _stretch(shown, black, white, inverted=film.PhotometricInterpretation == "MONOCHROME1")


def _stretch(shown: NDArray[np.generic], black: float, white: float, inverted: bool) -> NDArray[np.uint8]:
    """Stretch the values from black to white over 0 to 255, by blocks of rows: a film as floats is 8 times its size."""
    grey = np.empty(shown.shape, np.uint8)
    for first in range(0, len(shown), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        levels = np.clip((shown[rows].astype(np.float64) - black) * (255 / max(white - black, 1e-12)), 0, 255)
        grey[rows] = np.rint(255 - levels if inverted else levels)
    return grey


def _look_up(table: Dataset, pixels: NDArray[np.generic]) -> tuple[NDArray[np.generic], tuple[float, float]]:
    """Apply a value-of-interest table (PS3.3 C.11.2.1.1): its values, and what they mean as black and white.

    Not left to pydicom, whose apply_voi indexes tables of 8-bit values with 8 bits, however many entries they have.
    """
    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    values = table.LUTData
    if isinstance(values, bytes):
        values = np.frombuffer(values, np.uint8 if len(values) == entries else np.dtype("<u2"))
    values = np.asarray(values)
    index = np.clip(np.rint(pixels.astype(np.float64)) - first, 0, len(values) - 1).astype(np.int64)
    return values[index], (0.0, float(2**bits - 1))


def _window_range(film: Dataset) -> tuple[float, float]:
    """Return what a window makes of the darkest and of the brightest value there can be."""
    with np.errstate(over="ignore"):  # exp() of the sigmoid window
        below, above = apply_windowing(np.array([-1e12, 1e12]), film)
    return float(below), float(above)


def _range_without_padding(
    film: Dataset, stored: NDArray[np.generic], pixels: NDArray[np.generic]
) -> tuple[float, float]:
    padding = film.get("PixelPaddingValue")
    if padding is not None and np.any(stored != padding):
        pixels = pixels[stored != padding]
    return float(pixels.min()), float(pixels.max())
