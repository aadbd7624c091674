"""Films as bytes to grey pixels: the one path for preprocessing, prediction and serving.

The bytes are not trusted: what they are is told by their first bytes (never by the name), the size that their decoder
will believe is read and checked before anything is decoded, and whatever is damaged is refused with the reason. Which
stored values are black and white is the business of bit_depth.py, for all formats.

Saved models carry this file and those that it imports under another package's name: hence the relative imports between
them, and none of anything else of radflow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from .bad_film import MAX_FILM_PIXELS, BadFilm, check_pixel_count
from .bit_depth import scale_to_grey, value_range
from .breast import cut_breast
from .codestreams import CODESTREAM_SIGNATURE, JP2_SIGNATURE, JPEG_SIGNATURE, MAX_JPEG_SCANS, read_jpeg_2000_frame
from .pillow_films import deep_colour_to_grey, grey_image, open_bounded, upright
from .png import SIGNATURE as PNG_SIGNATURE
from .png import decode_png
from .tiff import SIGNATURES as TIFF_SIGNATURES
from .tiff import decode_tiff

__all__ = [
    "FILM_SUFFIXES",
    "MAX_FILM_BYTES",
    "MAX_FILM_PIXELS",
    "BadFilm",
    "Fit",
    "decode_film",
    "is_dicom",
    "read_film",
    "resize_film",
]

FILM_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".j2c", ".tif", ".tiff", ".pgm", ".dcm", ".dicom")
"""The names that are taken for films when a folder is searched, in lower case."""

MAX_FILM_BYTES = 256 * 2**20
"""Largest file that is read: 50 megapixels at 4 bytes, and room for a header."""

REDUCING_GAP = 1.01
"""How much larger than the wanted size a film may still be after the cheap box reduction, before Lanczos.

From 1024 to 224 pixels this takes 1.1 ms where Lanczos alone takes 5.8 (decoding: 11.5), for a mean difference of half
a grey level. It also bounds the memory for very long and thin films.
"""

Fit = Literal["pad", "squash", "breast"]
"""How a film that is not square becomes so: by black beside it, in equal parts; by another scale across than along; or
of a mammogram the breast alone, with its chest wall at the left and black beside it.
"""

_PGM_SIGNATURE = b"P5"
"""Portable grey map, in which mini-MIAS is released."""
_PGM_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PGM_HEADER = re.compile(rb"P5" + 3 * (_PGM_GAP + rb"(\d{1,9})") + rb"\s")
_DICOM_MARK, _DICOM_MARK_AT = b"DICM", 128
_FIRST_ELEMENTS = frozenset({(2, 0), *((8, element) for element in (0, 1, 5, 6, 8, 0x12, 0x13, 0x14, 0x16, 0x18))})
"""Groups and elements that a DICOM file without a preamble begins with."""
_FIRST_REPRESENTATIONS = (b"UL", b"CS", b"SQ", b"DA", b"TM", b"UI")
_LONGEST_FIRST_ELEMENT = 128
_LUMINANCE_FIRST = ("YUV", "e-YCC")
"""Colour spaces of JPEG 2000, as OpenJPEG calls them, whose first sample is the grey."""


class _Format(NamedTuple):
    name: str
    decode: Callable[[bytes], Image.Image]
    """Function that decodes bytes to an image of mode L."""


def read_film(content: bytes, name: str, size: int, fit: Fit) -> NDArray[np.uint8]:
    """Decode a film and resize it to `size` x `size` grey pixels; raises `BadFilm` with the reason."""
    found = _recognise(content, name)
    with _refusals(found.name):
        return np.asarray(_fit(found.decode(content), size, fit))


def decode_film(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode PNG, JPEG, JPEG 2000, TIFF, PGM or DICOM bytes to grey uint8 [H, W], bright for dense tissue.

    Colour is turned to luminance (ITU-R 601), alpha is ignored: the release of ChestX-ray14 holds films saved as RGBA
    that are grey and opaque. Films are turned as their EXIF orientation says. Raises `BadFilm` with the reason.
    """
    found = _recognise(content, name)
    with _refusals(found.name):
        return np.asarray(found.decode(content))


def is_dicom(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of a DICOM film, with its preamble or, as some write it, without."""
    if head[_DICOM_MARK_AT : _DICOM_MARK_AT + len(_DICOM_MARK)] == _DICOM_MARK:
        return True
    if len(head) < 8:
        return False
    is_explicit = head[4:6] in _FIRST_REPRESENTATIONS
    is_implicit = int.from_bytes(head[4:8], "little") <= _LONGEST_FIRST_ELEMENT
    if struct.unpack("<HH", head[:4]) in _FIRST_ELEMENTS:
        return is_explicit or is_implicit
    return struct.unpack(">HH", head[:4]) in _FIRST_ELEMENTS and is_explicit  # big endian is never implicit


def resize_film(film: NDArray[np.uint8], size: int, fit: Fit = "squash") -> NDArray[np.uint8]:
    """Resize grey [H, W] to [size, size].

    Lanczos after a box reduction by a whole number, to no less than `REDUCING_GAP` times the wanted size. The films of
    ChestX-ray14 were squashed to squares by its authors.
    """
    return np.asarray(_fit(Image.fromarray(film), size, fit))


def _fit(film: Image.Image, size: int, fit: Fit) -> Image.Image:
    if fit == "squash":
        return _resize(film, (size, size))
    if fit == "breast":
        film = Image.fromarray(cut_breast(np.asarray(film)))
    longest = max(film.size)
    width, height = (max(1, round(side * size / longest)) for side in film.size)
    left = 0 if fit == "breast" else (size - width) // 2
    square = Image.new("L", (size, size))
    square.paste(_resize(film, (width, height)), (left, (size - height) // 2))
    return square


def _resize(film: Image.Image, size: tuple[int, int]) -> Image.Image:
    return film if film.size == size else film.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


@contextmanager
def _refusals(kind: str) -> Iterator[None]:
    """Make whatever a decoder raises the reason to refuse the film: no film, whatever it holds, may end a batch."""
    try:
        yield
    except BadFilm:
        raise
    except MemoryError as error:
        raise BadFilm(f"{kind} that takes more memory than there is") from error
    except Exception as error:
        raise BadFilm(f"damaged {kind}: {' '.join(str(error).split())}") from error


def _recognise(content: bytes, name: str) -> _Format:
    """Tell the format by the first bytes. A DICOM file may begin like a TIFF, in the preamble that it may fill."""
    if content.startswith(PNG_SIGNATURE):
        return _Format("PNG", decode_png)
    if content.startswith(JPEG_SIGNATURE):
        return _Format("JPEG", _decode_jpeg)
    if is_dicom(content[: _DICOM_MARK_AT + len(_DICOM_MARK)]):
        return _Format("DICOM", _decode_dicom)
    if content.startswith(TIFF_SIGNATURES):
        return _Format("TIFF", decode_tiff)
    if content.startswith((JP2_SIGNATURE, CODESTREAM_SIGNATURE)):
        return _Format("JPEG 2000", _decode_jpeg_2000)
    if content.startswith(_PGM_SIGNATURE):
        return _Format("PGM", _decode_pgm)
    raise BadFilm(_not_a_film(content, name))


def _decode_jpeg(content: bytes) -> Image.Image:
    if content.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise BadFilm(f"JPEG of more than {MAX_JPEG_SCANS} scans")
    with open_bounded(JpegImagePlugin.JpegImageFile, content) as image:
        image.load()
        return upright(grey_image(image), image)


def _decode_dicom(content: bytes) -> Image.Image:
    from .dicom import decode_dicom  # pydicom takes longer to import than ten PNGs take to decode

    return Image.fromarray(decode_dicom(content))


def _decode_jpeg_2000(content: bytes) -> Image.Image:
    """Decode by OpenJPEG itself, as DICOM films of this coding are: Pillow drops the lower bits of colours."""
    import openjpeg

    frame = read_jpeg_2000_frame(content)
    check_pixel_count(frame.width, frame.height)
    space = openjpeg.get_parameters(content)["colourspace"]
    if frame.components > 4 or frame.bits > 16 or space == "CMYK":
        raise BadFilm(f"JPEG 2000 of {frame.components} samples of {frame.bits} bits, expected grey or RGB of up to 16")
    samples = openjpeg.decode(content)
    colours = 3 if frame.components >= 3 and space not in _LUMINANCE_FIRST else 1
    samples = samples.reshape(frame.height, frame.width, -1)[..., :colours]
    return deep_colour_to_grey(samples, *value_range(samples, frame.bits))


def _decode_pgm(content: bytes) -> Image.Image:
    """Decode a binary grey map. Not left to Pillow, which takes a second for a megapixel whose maxval is not 255."""
    header = _PGM_HEADER.match(content)
    if header is None:
        raise BadFilm("damaged PGM: its header has no width, height and maxval")
    width, height, white = (int(number) for number in header.groups())
    check_pixel_count(width, height)
    if not 0 < white < 1 << 16:
        raise BadFilm(f"damaged PGM: maxval {white}, expected 1 to 65535")
    kind: np.dtype[np.integer] = np.dtype("u1" if white < 256 else ">u2")
    if len(content) - header.end() < width * height * kind.itemsize:
        raise BadFilm(f"damaged PGM: {len(content):,} bytes do not hold {width}x{height} pixels")
    stored = np.frombuffer(content, kind, width * height, header.end()).reshape(height, width)
    if white == (1 << 16) - 1:
        return Image.fromarray(scale_to_grey(stored, *value_range(stored)))
    return Image.fromarray(scale_to_grey(stored, 0, white))


def _not_a_film(content: bytes, name: str) -> str:
    if not content:
        return "empty file"
    suffix = PurePath(name).suffix
    although = f" although named {suffix}" if suffix else ""
    others = "nor JPEG 2000, TIFF or PGM"
    return f"not a PNG, JPEG or DICOM film{although}, {others}: its first bytes are {content[:8].hex(' ')}"
