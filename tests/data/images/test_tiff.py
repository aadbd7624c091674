from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from dicom_films import scaled
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from radflow.data.images.film import BadFilm, decode_film

GRADIENT = (np.add.outer(np.arange(60), np.arange(80)) % 256).astype(np.uint8)
DEEP = np.linspace(0, 4095, 4800).reshape(60, 80).astype(np.uint16)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, LENGTHS = 273, 277, 278, 279


def tiff(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def made_tiff(samples: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """An uncompressed TIFF of one strip, with other tags than it should have where they are given (tag256=0)."""
    height, width, channels = samples.shape if samples.ndim == 3 else (*samples.shape, 1)
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    numbers: dict[int, int | list[int]] = {
        WIDTH: width, HEIGHT: height, BITS: [8 * samples.itemsize] * channels, COMPRESSION: 1,
        PHOTOMETRIC: 2 if channels > 2 else 1, STRIPS: 8, SAMPLES: channels, ROWS: height, LENGTHS: len(pixels),
    }  # fmt: skip
    numbers |= {int(tag.removeprefix("tag")): value for tag, value in tags.items()}
    directory = 8 + len(pixels)
    entries, extra = b"", b""
    for tag, value in sorted(numbers.items()):
        values = value if isinstance(value, list) else [value]
        body = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            body, extra = struct.pack(order + "L", directory + 6 + 12 * len(numbers) + len(extra)), extra + body
        entries += struct.pack(order + "HHL", tag, 4, len(values)) + body
    start = b"II*\0" if order == "<" else b"MM\0*"
    head = start + struct.pack(order + "L", directory)
    return head + pixels + struct.pack(order + "H", len(numbers)) + entries + bytes(4) + extra


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_a_grey_film_is_the_same_in_every_lossless_tiff(mode: str, compression: str | None) -> None:
    image = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(GRADIENT).convert(mode)
    expected = scaled(DEEP, 0, 4095) if mode == "I;16" else GRADIENT
    np.testing.assert_array_equal(decode_film(tiff(image, compression=compression), "a.tif"), expected)


def test_jpeg_in_tiff_is_as_close_as_jpeg_is() -> None:
    smooth = (DEEP // 16).astype(np.uint8)
    content = tiff(Image.fromarray(smooth), compression="jpeg", quality=95)
    assert np.abs(decode_film(content, "a.tif").astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 9, 12, 15, 16])
def test_deep_tiff_is_scaled_from_the_bits_it_uses(order: str, channels: int, bits: int) -> None:
    deep = np.linspace(0, 2**bits - 1, 600).reshape(20, 30).astype(np.uint16)
    samples = np.stack([deep] * channels, axis=-1) if channels > 1 else deep
    np.testing.assert_array_equal(decode_film(made_tiff(samples, order), "a.tif"), scaled(deep, 0, 2**bits - 1))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_deep_colour_is_the_same_compressed(compression: str) -> None:
    samples = np.stack([DEEP] * 3, axis=-1)
    plain = made_tiff(samples)
    with Image.open(io.BytesIO(plain)) as image:
        assert image.mode == "RGB"  # which Pillow would write with 8 bits: so libtiff is given a strip made by hand
    packed = io.BytesIO()
    wide = Image.fromarray(samples.reshape(60, 240))
    wide.save(packed, "TIFF", compression=compression)
    with Image.open(packed) as image:
        offset, length = image.tag_v2[STRIPS], image.tag_v2[LENGTHS]
    assert len(offset) == 1
    strip = packed.getvalue()[offset[0] : offset[0] + length[0]]
    code = {"tiff_lzw": 5, "tiff_adobe_deflate": 8}[compression]
    content = made_tiff(samples, tag259=code, tag279=len(strip))
    content = content[:8] + strip + content[8 + len(strip) :]
    np.testing.assert_array_equal(decode_film(content, "a.tif"), scaled(DEEP, 0, 4095))


@pytest.mark.parametrize("samples", [GRADIENT, DEEP], ids=["8", "16"])
def test_white_is_zero_is_inverted(samples: np.ndarray) -> None:
    shown = decode_film(made_tiff(samples), "a.tif")
    np.testing.assert_array_equal(decode_film(made_tiff(samples, tag262=0), "a.tif"), 255 - shown)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (made_tiff(DEEP, tag339=2), "TIFF of 16 signed or floating bits"),
        (made_tiff(DEEP.astype(np.float32), tag339=3), "TIFF of 32 signed or floating bits"),
        (made_tiff(DEEP.astype(np.uint32)), "TIFF of 32 unsigned bits"),
        (made_tiff(GRADIENT, tag259=4), "TIFF of compression 4, expected none, LZW, JPEG, deflate"),
        (made_tiff(GRADIENT, tag256=10_000, tag257=10_000), "too large: 10000x10000 is 100 megapixels"),
        (made_tiff(GRADIENT, tag322=60_000, tag323=60_000), "too large: 60000x60000"),
        (tiff(Image.fromarray(GRADIENT), save_all=True, append_images=[Image.fromarray(GRADIENT)]), "of several pages"),
        (made_tiff(GRADIENT)[:2000], "damaged TIFF"),
    ],
)
def test_unfit_tiffs_are_refused_with_the_reason(content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "damaged" not in reason:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(BadFilm, match=reason):
        decode_film(content, "film.tif")


@given(st.integers(0, 300), st.integers(0, 255), st.sampled_from([None, "tiff_lzw", "jpeg"]))
def test_a_changed_byte_gives_a_film_or_a_reason(position: int, value: int, compression: str | None) -> None:
    content = bytearray(tiff(Image.fromarray(GRADIENT[:16, :16]), compression=compression))
    content[position % len(content)] = value
    try:
        assert decode_film(bytes(content), "a.tif").dtype == np.uint8
    except BadFilm as error:
        assert str(error).isprintable()  # noqa: PT017
