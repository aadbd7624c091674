"""PNGs that Pillow does not write: any header, samples of 16 bits in every colour type, chunks of one's own."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def made_png(
    width: int,
    height: int,
    stream: bytes,
    depth: int = 8,
    colour_type: int = 0,
    chunks: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG with right checksums around whatever stream of pixels; `chunks` go before it and `after` behind."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = chunk(b"IDAT", stream)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + pixels + after + chunk(b"IEND", b"")


def deep_png(samples: np.ndarray, chunks: bytes = b"") -> bytes:
    """A PNG of uint16 [H, W] or [H, W, channels], each row as differences from the pixel to its left (filter 1)."""
    height, width = samples.shape[:2]
    stored = samples.reshape(height, width, -1).astype(">u2")
    pixels = stored.view(np.uint8).reshape(height, width, -1)
    filtered = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).reshape(height, -1)
    rows = np.hstack([np.ones((height, 1), np.uint8), filtered])
    return made_png(width, height, zlib.compress(rows.tobytes()), 16, _COLOUR_TYPES[stored.shape[2]], chunks)
