"""What compressed frames say of themselves, which is what decoders believe whatever the header around them says."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .bad_film import BadFilm

JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM_SIGNATURE = b"\xff\x4f\xff\x51"
JPEG_SIGNATURE = b"\xff\xd8\xff"

MAX_JPEG_SCANS = 200
"""Progressive JPEGs have about ten; each costs a pass over all pixels, however few bytes it has."""

MAX_JPEG_2000_PARTS = 1_000_000
"""Code blocks, precincts or tiles of a film, each of which costs the decoder some hundred bytes."""

MAX_JPEG_2000_TILES = 16_384
"""Tiles cost it some thousand bytes each. A film of 50 megapixels has as many of 56x56 pixels."""

_JPEG_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xda-\xfe])")
"""Markers that a length follows; entropy-coded data have none of these (ISO 10918-1, B.1.1.5; ISO 14495-1, A.1)."""
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_OTHER_SIZES = frozenset({0xDC, 0xDE, 0xDF})
"""Number of lines, hierarchical progression and expansion: the film is not as large as its frame header says."""

_START_OF_TILE_PART, _START_OF_DATA = 0xFF90, 0xFF93
_CODING_DEFAULT, _CODING_COMPONENT = 0xFF52, 0xFF53


class Frame(NamedTuple):
    """Size and samples of a compressed frame."""

    width: int
    height: int
    components: int
    bits: int
    """Declared bits a sample."""


def read_jpeg_frame(content: bytes) -> Frame:
    """Read the frame header of a JPEG or JPEG-LS (ISO 10918-1, B.2.2; ISO 14495-1, C.2.2).

    Raises `BadFilm` where there is none or several, where other markers change the size, or for endless scans.
    """
    frames, scans = [], 0
    for marker, body in _jpeg_segments(content):
        if marker in _OTHER_SIZES:
            raise BadFilm(f"JPEG whose size is changed by marker FF{marker:02X}, expected one frame header")
        if marker in _START_OF_FRAME and len(body) >= 6:
            bits, height, width, components = struct.unpack(">BHHB", body[:6])
            frames.append(Frame(width, height, components, bits))
        scans += marker == _START_OF_SCAN
        if scans > MAX_JPEG_SCANS:
            raise BadFilm(f"JPEG of more than {MAX_JPEG_SCANS} scans")
    if len(frames) != 1:
        raise BadFilm(f"JPEG of {len(frames)} frame headers, expected one")
    return frames[0]


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers with what their segments hold."""
    position = 2
    while found := _JPEG_SEGMENT.search(content, position):
        length = int.from_bytes(content[found.end() : found.end() + 2], "big")
        yield found[1][0], content[found.end() + 2 : found.end() + length]
        position = found.end() + max(length, 2)


def read_jpeg_2000_frame(content: bytes) -> Frame:
    """Read size and components of JPEG 2000, bare or in the boxes of a JP2 file, from the codestream itself.

    Raises `BadFilm` where there is no codestream, where components differ in size, and for more tiles, code blocks or
    precincts than films have: a decoder takes memory for each before it has seen a pixel.
    """
    start = _codestream_start(content)
    if content[start : start + 4] != CODESTREAM_SIGNATURE:
        raise BadFilm("JPEG 2000 without a codestream")
    right, bottom, left, top, tile_width, tile_height, _, _, components = struct.unpack_from(">8IH", content, start + 8)
    width, height = right - left, bottom - top
    if 0 in (tile_width, tile_height) or width < 1 or height < 1:
        raise BadFilm(f"JPEG 2000 of {width}x{height} pixels in tiles of {tile_width}x{tile_height}")
    if -(-right // tile_width) * -(-bottom // tile_height) > MAX_JPEG_2000_TILES:
        raise BadFilm(f"JPEG 2000 in tiles of {tile_width}x{tile_height}, more than {MAX_JPEG_2000_TILES:,} of them")
    samplings = content[start + 42 : start + 42 + 3 * components]
    if samplings[1::3] + samplings[2::3] != b"\1" * (2 * components):
        raise BadFilm("JPEG 2000 whose components differ in size from the film")
    for smallest in _smallest_parts(content, start):
        if width * height > smallest * MAX_JPEG_2000_PARTS:
            raise BadFilm(f"JPEG 2000 in parts of {smallest} pixels, more than {MAX_JPEG_2000_PARTS:,} of them")
    return Frame(width, height, components, max(depth & 0x7F for depth in samplings[::3]) + 1)


def _codestream_start(content: bytes) -> int:
    """Offset of the codestream: behind the header of the first box that holds one (ISO 15444-1, I.4)."""
    if not content.startswith(JP2_SIGNATURE):
        return 0
    position = 0
    while position + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(content[position + 8 : position + 16], "big"), 16
        if kind == b"jp2c":
            return position + header
        if length < header:
            break
        position += length
    return 0


def _smallest_parts(content: bytes, start: int) -> Iterator[int]:
    """Pixels of a code block and of the smallest precinct, for each coding style (ISO 15444-1, A.6.1 and A.6.2)."""
    wide = 2 if int.from_bytes(content[start + 40 : start + 42], "big") > 256 else 1  # a component's number
    for marker, body in _jpeg_2000_segments(content, start + 2):
        if marker == _CODING_DEFAULT:
            style, parameters = body[:1], body[5:]
        elif marker == _CODING_COMPONENT:
            style, parameters = body[wide : wide + 1], body[wide + 1 :]
        else:
            continue
        if len(parameters) < 5:
            raise BadFilm("JPEG 2000 cut short in its header")
        yield 1 << ((parameters[1] & 15) + (parameters[2] & 15) + 4)
        if style[0] & 1:
            yield min(1 << ((sides & 15) + (sides >> 4)) for sides in parameters[5:] or b"\0")


def _jpeg_2000_segments(content: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """Markers of the main header and of those of all tile-parts, with what their segments hold."""
    tile_part = position
    while position + 4 <= len(content):
        marker, length = struct.unpack(">HH", content[position : position + 4])
        if marker == _START_OF_TILE_PART:
            tile_part = position
        elif marker == _START_OF_DATA:
            tile_bytes = int.from_bytes(content[tile_part + 6 : tile_part + 10], "big")
            if tile_bytes == 0:  # the last, to the end
                return
            position = max(tile_part + tile_bytes, position + 2)
            continue
        elif marker < 0xFF00:
            return
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)
