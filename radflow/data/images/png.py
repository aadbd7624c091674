"""PNG films: chunks walked before anything is decoded, and a fast way for plain grey ones."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from .bad_film import BadFilm, check_pixel_count
from .bit_depth import CONTAINER_BITS, fits, scale_to_grey, value_range
from .pillow_films import (
    deep_colour_to_grey,
    grey_image,
    is_deep_colour,
    open_bounded,
    read_deep_colour,
    upright,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PLAIN_GREY = [8, 0, 0, 0, 0]
"""Bits a sample, colour type, compression, filters, interlacing: what an 8-bit grey PNG's header ends with."""

_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_TEXT_WITH_ORIENTATION = (b"Raw profile type", b"XML:com.adobe.xmp")
"""Keywords of text chunks in which programs have written EXIF data and XMP, beside the chunk that is for them."""

_GREY_AND_ALPHA = 4
_STORED_BLOCK_BYTES = 0xFFFF


class _Chunks(NamedTuple):
    """What the walk finds."""

    header: bytes
    """The body of the header chunk."""
    stream: bytes
    """The compressed pixels."""
    significant_bits: int
    """Depth of the samples before they were stored in 16 bits, which is what is assumed without an sBIT chunk."""
    may_be_turned: bool
    """Whether an orientation may be given."""


def decode_png(content: bytes) -> Image.Image:
    """Decode a PNG to an image of mode L; raises `BadFilm`, and what Pillow and ISA-L raise for damaged pixels."""
    chunks = _walk_chunks(content)
    width, height, *kind = struct.unpack(">IIBBBBB", chunks.header)
    if kind == _PLAIN_GREY and not chunks.may_be_turned:
        return _decode_plain_grey(chunks.stream, width, height)
    with open_bounded(PngImagePlugin.PngImageFile, content) as image:
        if is_deep_colour(image):
            samples = read_deep_colour(PngImagePlugin.PngImageFile, content)
            grey = deep_colour_to_grey(samples, *_range_of(samples, chunks.significant_bits))
            return upright(grey, image)
        image.load()
        if image.mode.startswith("I"):
            deep = np.asarray(image).astype(np.uint16, copy=False)
            return upright(Image.fromarray(scale_to_grey(deep, *_range_of(deep, chunks.significant_bits))), image)
        return upright(grey_image(image), image)


def _range_of(samples: NDArray[np.uint16], significant_bits: int) -> tuple[int, int]:
    """Black and white of 16-bit samples.

    The specification has samples of fewer significant bits scaled up to all 16, and sBIT say how many there were
    (PNG, third edition, sections 11.3.2.4 and 13.12). Many programs leave them as they are, and write sBIT as well.
    """
    black, white = value_range(samples, significant_bits)
    if significant_bits < CONTAINER_BITS and not fits(samples, white):
        white = (1 << CONTAINER_BITS) - 1
    return black, white


def _walk_chunks(content: bytes) -> _Chunks:
    """Walk the chunks: size within the limit, critical chunks whole by their checksums, and the end in place.

    Pillow skips the checksums of pixel data, and so would turn some damaged films into wrong pixels. Of several
    headers it believes the last.
    """
    position, stream, bits, may_be_turned = len(SIGNATURE), [], CONTAINER_BITS, False
    header = b""
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
        if not header or kind == b"IHDR":
            header = _checked_header(kind, bytes(body), position)
        elif kind == b"IDAT":
            stream.append(body)
        elif kind == b"sBIT":
            bits = _significant_bits(header, bytes(body))
        elif kind == b"eXIf" or (kind in _TEXT and bytes(body[:17]).startswith(_TEXT_WITH_ORIENTATION)):
            may_be_turned = True
        elif kind == b"IEND":
            return _Chunks(header, b"".join(stream), bits, may_be_turned)
        position += 12 + length


def _checked_header(kind: bytes, body: bytes, position: int) -> bytes:
    if kind != b"IHDR" or len(body) != 13:
        raise BadFilm("damaged PNG: it does not begin with a header chunk")
    if position != len(SIGNATURE):
        raise BadFilm(f"damaged PNG: a second header chunk at byte {position:,}")
    check_pixel_count(*struct.unpack(">II", body[:8]))
    return body


def _significant_bits(header: bytes, body: bytes) -> int:
    """Significant bits of the colours, the most of any; alpha, which comes last, does not count."""
    depth, colour_type = header[8], header[9]
    colours = body[:1] if colour_type == _GREY_AND_ALPHA else body[:3]
    bits = max(colours, default=0)
    return bits if 0 < bits < depth else CONTAINER_BITS


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
