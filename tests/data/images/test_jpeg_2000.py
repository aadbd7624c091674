from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from dicom_films import scaled
from hypothesis import given
from hypothesis import strategies as st
from openjpeg.utils import encode_array
from PIL import Image

from radflow.data.images.film import BadFilm, decode_film

DEEP = np.linspace(0, 4095, 4800).reshape(60, 80).astype(np.uint16)
GREY = (DEEP // 16).astype(np.uint8)
SIZE = struct.pack(">II", 80, 60)
LARGE = struct.pack(">II", 8000, 8000)


def jpeg_2000(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG2000", **options)
    return buffer.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("boxed", [True, False])
def test_a_grey_film_is_the_same_in_every_mode(mode: str, boxed: bool) -> None:
    content = jpeg_2000(Image.fromarray(GREY).convert(mode), no_jp2=not boxed, mct=0)
    assert content.startswith(b"\0\0\0\x0cjP  " if boxed else b"\xff\x4f\xff\x51")
    np.testing.assert_array_equal(decode_film(content, "a.jp2"), GREY)


@pytest.mark.parametrize("bits", [8, 9, 12, 15, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_declared_precision_is_believed(bits: int, channels: int) -> None:
    dark = (DEEP // 20).astype(np.uint16 if bits > 8 else np.uint8)
    dark[0, 0] = 2**bits - 1 if bits == 16 else 0  # of 16 bits it is no more than the size of the container
    samples = np.stack([dark] * channels, axis=-1) if channels > 1 else dark
    photometric = 1 if channels > 1 else 2  # OpenJPEG's RGB and grey
    content = bytes(encode_array(samples, bits_stored=bits, photometric_interpretation=photometric, use_mct=False))
    white = 255 if bits == 16 else 2**bits - 1
    np.testing.assert_array_equal(decode_film(content, "a.j2k"), scaled(dark, 0, white))


def test_lossy_is_close() -> None:
    content = jpeg_2000(Image.fromarray(GREY), irreversible=True, quality_mode="dB", quality_layers=[50])
    assert np.abs(decode_film(content, "a.jp2").astype(int) - GREY).max() <= 6


def boxed_with(before: bytes, codestream: bytes) -> bytes:
    content = jpeg_2000(Image.fromarray(GREY))
    start = content.index(b"jp2c") - 4
    return content[:start] + before + box(b"jp2c", codestream)


def test_the_size_is_that_of_the_codestream_wherever_others_stand() -> None:
    codestream = jpeg_2000(Image.fromarray(GREY), no_jp2=True)
    large = codestream.replace(SIZE, LARGE)
    for content in (
        boxed_with(box(b"free", codestream), large),
        boxed_with(box(b"free", codestream) + struct.pack(">I4sQ", 1, b"free", 16), large),
        boxed_with(b"", large),
        large,
    ):
        with pytest.raises(BadFilm, match="too large: 8000x8000 is 64 megapixels"):
            decode_film(content, "a.jp2")
    np.testing.assert_array_equal(decode_film(boxed_with(box(b"free", large), codestream), "a.jp2"), GREY)


def changed(old: bytes, new: bytes, **options: object) -> bytes:
    codestream = jpeg_2000(Image.fromarray(GREY), no_jp2=True, **options)
    assert codestream.count(old) == 1
    return codestream.replace(old, new)


def huge(old: bytes, new: bytes) -> bytes:
    """A codestream of 49 megapixels with other parameters."""
    return changed(old, new).replace(SIZE, struct.pack(">II", 7000, 7000), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # Image and tile sizes: XTsiz and YTsiz stand behind the two offsets.
        (huge(bytes(8) + SIZE, bytes(8) + struct.pack(">II", 8, 8)), "in tiles of 8x8, more than 16,384"),
        (changed(bytes(8) + SIZE, bytes(16)), "of 80x60 pixels in tiles of 0x0"),
        # COD: 5 levels, code blocks 64x64 (2^(4+2)).
        (huge(b"\5\4\4\0", b"\5\0\0\0"), "in parts of 16 pixels, more than 1,000,000 of them"),
        (
            huge(b"\xff\x52\0\x0c\0", b"\xff\x52\0\x12\1").replace(b"\5\4\4\0\1", b"\5\4\4\0\1" + b"\x11" * 6),
            "in parts of 4 pixels",
        ),
        (changed(b"\0\1\7\1\1", b"\0\1\7\2\2"), "components differ in size"),
        (changed(b"\0\1\7\1\1", b"\x40\0\7\1\1"), "components differ in size"),
        (b"\xff\x4f\xff\x51\0\x29", "damaged JPEG 2000"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"free", b""), "JPEG 2000 without a codestream"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(4) + b"free", "JPEG 2000 without a codestream"),
    ],
)
def test_what_would_take_memory_without_bounds_is_refused_before_decoding(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openjpeg.decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(BadFilm, match=reason):
        decode_film(content, "a.jp2")


def test_parameters_of_a_single_tile_count_as_well() -> None:
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 0, 0, 1) + b"\xff\x52\0\x0c\0\0\0\1\0\5\0\0\0\1" + b"\xff\x93"
    codestream = jpeg_2000(Image.fromarray(GREY), no_jp2=True).replace(SIZE, struct.pack(">II", 7000, 7000), 1)
    with pytest.raises(BadFilm, match="in parts of 16 pixels"):
        decode_film(codestream[: codestream.index(b"\xff\x90")] + tile, "a.j2k")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_a_film_or_a_reason(position: int, value: int) -> None:
    content = bytearray(jpeg_2000(Image.fromarray(GREY[:16, :16])))
    content[position % len(content)] = value
    try:
        assert decode_film(bytes(content), "a.jp2").dtype == np.uint8
    except BadFilm as error:
        assert str(error).isprintable()  # noqa: PT017
