"""A minimal encoder of lossless JPEG (ISO 10918-1, annex H, process 14 with predictor 1); no library here has one."""

from __future__ import annotations

import struct

import numpy as np

_CATEGORIES = 17


def encode_lossless_jpeg(pixels: np.ndarray, bits: int) -> bytes:
    """Encode grey [H, W] of `bits` bits. Every difference category gets a Huffman code of 5 bits."""
    height, width = pixels.shape
    frame = struct.pack(">BHHBBBB", bits, height, width, 1, 1, 0x11, 0)
    codes = bytes([0, 0, 0, 0, _CATEGORIES, *[0] * 11, *range(_CATEGORIES)])
    scan = bytes([1, 1, 0x00, 1, 0, 0])
    return b"".join(
        [b"\xff\xd8", _segment(0xC3, frame), _segment(0xC4, b"\x00" + codes), _segment(0xDA, scan),
         _entropy_coded(_differences(pixels.astype(np.int64), bits)), b"\xff\xd9"]
    )  # fmt: skip


def _differences(pixels: np.ndarray, bits: int) -> np.ndarray:
    predicted = np.empty_like(pixels)
    predicted[:, 1:] = pixels[:, :-1]
    predicted[1:, 0] = pixels[:-1, 0]
    predicted[0, 0] = 2 ** (bits - 1)
    return (pixels - predicted).ravel()


def _entropy_coded(differences: np.ndarray) -> bytes:
    text = []
    for difference in differences.tolist():
        category = abs(difference).bit_length()
        text.append(f"{category:05b}")
        if category:
            value = difference if difference > 0 else difference + 2**category - 1
            text.append(f"{value:0{category}b}")
    stream = "".join(text)
    stream += "1" * (-len(stream) % 8)
    return int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
