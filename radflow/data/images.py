"""Films as bytes to grey pixels: the one path for preprocessing, prediction and serving.

The bytes are not trusted: what they are is told by their first bytes (never by the name), their size is read from
the header and checked before anything is decoded, and whatever is damaged is refused with the reason.

Saved models carry this file and dicom.py under another package's name: hence the relative import between the two, and
none of anything else of radflow.
"""

from __future__ import annotations

import io
import struct
from pathlib import PurePath

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, PpmImagePlugin

FILM_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
"""The names that are taken for films when a folder is searched, in lower case."""

MAX_FILM_PIXELS = 50_000_000
"""Largest film that is decoded. The largest digital mammograms have about 20 megapixels."""

MAX_FILM_BYTES = 256 * 2**20
"""Largest file that is read: 50 megapixels at 4 bytes, and room for a header."""

REDUCING_GAP = 1.01
"""How much larger than the wanted size a film may still be after the cheap box reduction, before Lanczos.

From 1024 to 224 pixels this takes 1.1 ms where Lanczos alone takes 5.8 (decoding: 11.5), for a mean difference of half
a grey level. It also bounds the memory for very long and thin films.
"""

_LONGEST_REASON = 200
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PLAIN_GREY = [8, 0, 0, 0, 0]
"""Bits a sample, colour type, compression, filters, interlacing: what an 8-bit grey PNG's header ends with."""
_PGM_SIGNATURE = b"P5"
"""Portable grey map, in which mini-MIAS is released."""
_BAD_STREAM: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # isal's stub calls it an instance
_UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, LookupError, OverflowError, struct.error, _BAD_STREAM)
"""What Pillow and ISA-L raise for bytes that are not the image they claim to be."""

_STORED_BLOCK_BYTES = 0xFFFF


class BadFilm(ValueError):  # noqa: N818  (a film is bad; the program is not in error)
    """These bytes are no film that radflow can use; the text is the reason on one line, without the film's name."""

    def __init__(self, reason: str) -> None:
        # A reason may quote the file or a decoder's essay, and goes to terminals and tables.
        first_line = (reason.splitlines() or [""])[0][:_LONGEST_REASON]
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in first_line))


def read_film(content: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """Decode a film and resize it to `size` x `size` grey pixels; raises `BadFilm` with the reason."""
    return np.asarray(_squash(_decode(content, name), size))


def decode_film(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode PNG, JPEG, PGM or DICOM bytes to grey uint8 [H, W], bright for dense tissue, or raise `BadFilm`.

    Colour is turned to luminance (ITU-R 601), alpha is ignored: the release holds films saved as RGBA that are grey
    and opaque. Grey of 16 bits is scaled from the smallest of 10, 12, 14 and 16 bits that holds its brightest pixel,
    because detectors of 10 to 14 bits are commonly saved in 16.
    """
    return np.asarray(_decode(content, name))


def resize_film(film: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize grey [H, W] to [size, size]. A film that is not square is squashed, as in CheXNet and the release's PNGs.

    Lanczos after a box reduction by a whole number, to no less than `REDUCING_GAP` times the wanted size.
    """
    return np.asarray(_squash(Image.fromarray(film), size))


def check_pixel_count(width: int, height: int) -> None:
    """Refuse a film whose header announces more than `MAX_FILM_PIXELS` pixels, or none; raises `BadFilm`."""
    if width < 1 or height < 1:
        raise BadFilm(f"no pixels: the header says {width}x{height}")
    if width * height > MAX_FILM_PIXELS:
        given, limit = width * height / 1e6, MAX_FILM_PIXELS / 1e6
        raise BadFilm(f"too large: {width}x{height} is {given:.0f} megapixels, the limit is {limit:.0f}")


def _squash(film: Image.Image, size: int) -> Image.Image:
    if film.size == (size, size):
        return film
    return film.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


def _decode(content: bytes, name: str) -> Image.Image:
    """Decode to an image of mode L. Images rather than arrays, because each passage between the two is a copy."""
    if content.startswith(_PNG_SIGNATURE):
        return _decode_png(content)
    if content.startswith(_JPEG_SIGNATURE):
        return _decode_bounded(JpegImagePlugin.JpegImageFile, "JPEG", content)
    if content.startswith(_PGM_SIGNATURE):
        return _decode_bounded(PpmImagePlugin.PpmImageFile, "PGM", content)
    if content[128:132] == b"DICM":
        from .dicom import decode_dicom  # pydicom takes longer to import than ten PNGs take to decode

        return Image.fromarray(decode_dicom(content))
    raise BadFilm(_not_a_film(content, name))


def _decode_png(content: bytes) -> Image.Image:
    header, stream = _read_png_chunks(content)
    width, height, *kind = struct.unpack(">IIBBBBB", header)
    try:
        if kind == _PLAIN_GREY:
            return _decode_plain_grey(stream, width, height)
        # The plugin's class rather than Image.open: the format is settled, and so is the number of pixels.
        with PngImagePlugin.PngImageFile(io.BytesIO(content)) as image:
            return _grey_pixels(image)
    except BadFilm:
        raise
    except _UNREADABLE as error:
        raise BadFilm(f"damaged PNG: {error}") from error


def _read_png_chunks(content: bytes) -> tuple[bytes, bytes]:
    """Walk the chunks: size within the limit, critical chunks whole by their checksums, and the end in place.

    Pillow skips the checksums of pixel data, and so would turn some damaged films into wrong pixels. Returns the body
    of the header and the compressed stream of pixels.
    """
    position, stream = len(_PNG_SIGNATURE), []
    while True:
        start = content[position : position + 8]
        if len(start) < 8:
            raise BadFilm(f"truncated PNG: it ends after {len(content):,} bytes without an end chunk")
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        body = memoryview(content)[position + 8 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise BadFilm(f"truncated PNG: it ends after {len(content):,} bytes, inside a chunk")
        critical = kind[:1].isupper()
        if critical and isal_zlib.crc32(body, isal_zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise BadFilm(f"damaged PNG: wrong checksum of the {kind.decode('latin-1')} chunk at byte {position:,}")
        if position == len(_PNG_SIGNATURE):
            _check_png_header(kind, bytes(body))
            header = bytes(body)
        if kind == b"IDAT":
            stream.append(body)
        if kind == b"IEND":
            return header, b"".join(stream)
        position += 12 + length


def _check_png_header(kind: bytes, body: bytes) -> None:
    if kind != b"IHDR" or len(body) != 13:
        raise BadFilm("damaged PNG: it does not begin with a header chunk")
    check_pixel_count(*struct.unpack(">II", body[:8]))


def _decode_plain_grey(stream: bytes, width: int, height: int) -> Image.Image:
    """Decode the pixels of a PNG of 8-bit grey that is not interlaced, as nearly all of ChestX-ray14 are.

    Half of decoding is inflating, at which ISA-L takes half as long as Pillow's zlib. Pillow undoes the rows' filters,
    which it does behind an inflation of its own only: so the rows are handed over as a stream of stored blocks.
    """
    expected = height * (1 + width)  # each row begins with the number of its filter
    rows = isal_zlib.decompressobj().decompress(stream, expected)
    if len(rows) < expected:
        raise BadFilm(f"truncated PNG: pixels of {len(rows) // (1 + width)} rows, the header says {height}")
    return Image.frombytes("L", (width, height), _stored(rows), "zip", "L")


def _stored(content: bytes) -> bytes:
    """Wrap bytes as a zlib stream of uncompressed blocks (RFC 1950; RFC 1951, section 3.2.4)."""
    blocks: list[bytes | memoryview] = [b"\x78\x01"]
    for start in range(0, len(content), _STORED_BLOCK_BYTES):
        block = memoryview(content)[start : start + _STORED_BLOCK_BYTES]
        is_last = start + _STORED_BLOCK_BYTES >= len(content)
        blocks += [struct.pack("<BHH", is_last, len(block), ~len(block) & 0xFFFF), block]
    return b"".join([*blocks, struct.pack(">I", isal_zlib.adler32(content))])


def _decode_bounded(plugin: type[ImageFile.ImageFile], kind: str, content: bytes) -> Image.Image:
    """Decode by Pillow's plugin for one format, after its header's size is checked."""
    try:
        with plugin(io.BytesIO(content)) as image:
            check_pixel_count(*image.size)
            return _grey_pixels(image)
    except BadFilm:
        raise
    except _UNREADABLE as error:
        raise BadFilm(f"damaged {kind}: {error}") from error


def _grey_pixels(image: Image.Image) -> Image.Image:
    """Load an opened image as mode L."""
    image.load()
    if image.mode == "L":
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("P", "PA", "CMYK"):
        image = image.convert("RGB")
    return image.convert("L")


def _eight_bits(deep: NDArray[np.generic]) -> NDArray[np.uint8]:
    brightest = int(deep.max())
    bits = next(bits for bits in (10, 12, 14, 16) if brightest < 2**bits)
    scaled = deep.astype(np.float32) * np.float32(255 / (2**bits - 1))
    return np.rint(scaled).astype(np.uint8)


def _not_a_film(content: bytes, name: str) -> str:
    if not content:
        return "empty file"
    suffix = PurePath(name).suffix
    although = f" although named {suffix}" if suffix else ""
    return f"not a PNG, JPEG or DICOM film{although}: its first bytes are {content[:8].hex(' ')}"
