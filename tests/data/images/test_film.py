from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nih_folder import png_bytes
from PIL import Image, ImageFile, ImageOps
from png_films import chunk, deep_png, made_png

from radflow.data.images import film as images
from radflow.data.images.film import BadFilm, decode_film, read_film, resize_film

GRADIENT = (np.add.outer(np.arange(60), np.arange(80)) % 256).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def announced_png(width: int, height: int) -> bytes:
    """A valid PNG header that announces a size, with next to no pixel data behind it."""
    return made_png(width, height, zlib.compress(bytes(1000)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_grey_film_is_the_same_in_every_png_mode(mode: str) -> None:
    assert np.array_equal(decode_film(encoded(Image.fromarray(GRADIENT).convert(mode), "PNG"), "a.png"), GRADIENT)


def test_one_bit_png_is_black_and_white() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2 == 1
    assert np.array_equal(decode_film(encoded(Image.fromarray(checks), "PNG"), "a.png"), checks * 255)


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey+alpha", "RGB", "RGBA"])
def test_deep_png_is_scaled_from_the_bits_it_uses_in_every_mode(bits: int, channels: int) -> None:
    deep = np.linspace(0, 2**bits - 1, 600).reshape(20, 30).astype(np.uint16)
    samples = np.stack([deep] * channels, axis=-1)
    if channels in (2, 4):
        samples[..., -1] = 65_535  # opaque
    expected = np.rint(deep * 255.0 / (2**bits - 1))
    np.testing.assert_array_equal(decode_film(deep_png(samples), "a.png"), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_hot_pixel_leaves_a_deep_png_as_bright_as_it_was(channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (40, 50, channels), np.uint16)
    grey = decode_film(deep_png(samples), "a.png")
    samples[0, 0] = 65_535
    np.testing.assert_array_equal(decode_film(deep_png(samples), "a.png")[1:], grey[1:])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_significant_bits_of_a_png_are_believed_before_its_pixels(channels: int) -> None:
    dark = np.random.default_rng(0).integers(0, 300, (20, 30), np.uint16)
    declared = chunk(b"sBIT", bytes([12] * channels))
    samples = np.stack([dark] * channels, axis=-1)
    np.testing.assert_array_equal(decode_film(deep_png(samples, declared), "a.png"), np.rint(dark * 255.0 / 4095))
    # As the specification has it, samples are scaled up to all 16 bits, and sBIT says what they were before.
    wide = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    scaled_up = np.stack([wide << 4 | wide >> 8] * channels, axis=-1)
    np.testing.assert_array_equal(decode_film(deep_png(scaled_up, declared), "a.png"), np.rint(wide * 255.0 / 4095))


def test_a_second_header_of_a_png_is_refused() -> None:
    # Pillow believes the last header: these pixels would be decoded as 7000x8000.
    larger = chunk(b"IHDR", struct.pack(">IIBBBBB", 7000, 8000, 8, 2, 0, 0, 0))
    for header in (larger, chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))):
        content = made_png(4, 4, zlib.compress(bytes(10**5)), colour_type=2, chunks=header)
        with pytest.raises(BadFilm, match="damaged PNG: a second header chunk at byte 33"):
            decode_film(content, "film.png")
    with pytest.raises(BadFilm, match="a second header"):
        decode_film(made_png(4, 4, zlib.compress(b"\0abcd" * 4), after=larger), "film.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "mode"), [(form, mode) for form in ("PNG", "TIFF", "JPEG") for mode in ("L", "RGB", "I;16")][:-1]
)
def test_films_are_turned_as_their_exif_orientation_says(orientation: int, form: str, mode: str) -> None:
    lying = Image.fromarray(GRADIENT.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GRADIENT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(lying.convert(mode), form, exif=exif)
    straight = decode_film(encoded(lying.convert(mode), form), "a")
    turned = Image.fromarray(straight)
    turned.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(decode_film(content, "a"), np.asarray(ImageOps.exif_transpose(turned)))
    assert decode_film(content, "a").shape == ((80, 60) if orientation >= 5 else (60, 80))


def test_an_orientation_in_a_text_chunk_of_a_png_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes()[6:]
    profile = f"Raw profile type exif\0\nexif\n{len(data):8}\n{data.hex()}\n".encode()
    plain = encoded(Image.fromarray(GRADIENT), "PNG")
    content = plain[:33] + chunk(b"tEXt", profile) + plain[33:]
    np.testing.assert_array_equal(decode_film(content, "a.png"), np.rot90(GRADIENT, -1))


@given(st.binary(max_size=80))
def test_damaged_exif_data_are_passed_over(data: bytes) -> None:
    content = encoded(Image.fromarray(GRADIENT), "PNG")
    content = content[:33] + chunk(b"eXIf", b"MM\0*\0\0\0\x08" + data) + content[33:]
    assert sorted(decode_film(content, "a.png").shape) == [60, 80]


def test_deep_colour_is_weighted_as_of_8_bits() -> None:
    samples = np.random.default_rng(0).integers(0, 65_536, (20, 30, 3), np.uint16)
    weighted = samples @ np.array([0.299, 0.587, 0.114]) / 257  # ITU-R 601
    assert np.abs(decode_film(deep_png(samples), "a.png") - weighted).max() <= 1


def test_whatever_a_decoder_raises_is_the_reason_of_one_film(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(GRADIENT), "PNG")
    for error, reason in (
        (MemoryError(), "PNG that takes more memory than there is"),
        (TypeError("two\nlines"), "damaged PNG: two lines"),
        (ZeroDivisionError("no rows"), "damaged PNG: no rows"),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(images, "decode_png", fail)
        for read in (lambda: decode_film(content, "a.png"), lambda: read_film(content, "a.png", 32, "squash")):
            with pytest.raises(BadFilm, match=reason):
                read()


def test_memory_for_resizing_is_the_film_s_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_resize", fail)
    with pytest.raises(BadFilm, match="more memory"):
        read_film(encoded(Image.fromarray(GRADIENT), "PNG"), "a.png", 32, "squash")


@pytest.mark.parametrize("kind", range(5), ids=["none", "sub", "up", "average", "paeth"])
def test_each_filter_of_rows_is_undone(kind: int) -> None:
    filtered = np.random.default_rng(kind).integers(0, 256, (300, 271), dtype=np.uint8)  # more than a stored block
    filtered[:, 0] = kind
    content = made_png(270, 300, zlib.compress(filtered.tobytes()))
    assert np.array_equal(decode_film(content, "a.png"), unfiltered(filtered))


def unfiltered(rows: np.ndarray) -> np.ndarray:
    """PNG specification, section 9: each pixel is what is stored plus a prediction from left, above and upper left."""
    predictions = {
        0: lambda a, b, c: 0,
        1: lambda a, b, c: a,
        2: lambda a, b, c: b,
        3: lambda a, b, c: (a + b) // 2,
        4: lambda a, b, c: min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2],
    }
    above, pixels = [0] * rows.shape[1], []
    for kind, *stored in rows.tolist():
        row = [0]
        for column, value in enumerate(stored, start=1):
            row.append((value + predictions[kind](row[-1], above[column], above[column - 1])) % 256)
        pixels.append(row[1:])
        above = row
    return np.array(pixels, np.uint8)


def test_what_follows_the_last_row_of_a_png_is_left_alone() -> None:
    stream = zlib.compress(b"\0abcd" * 4 + bytes(10**6))
    assert decode_film(made_png(4, 4, stream), "a.png").tobytes() == b"abcd" * 4


def test_colour_becomes_luminance() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert np.unique(decode_film(encoded(red, "PNG"), "a.png")).tolist() == [76]  # 0.299 * 255


def test_pgm_is_read_and_bounded() -> None:
    header = f"P5 # mini-MIAS\n{GRADIENT.shape[1]} {GRADIENT.shape[0]}\n255\n".encode()
    assert np.array_equal(decode_film(header + GRADIENT.tobytes(), "mdb001.pgm"), GRADIENT)
    with pytest.raises(BadFilm, match="damaged PGM"):
        decode_film(header + GRADIENT.tobytes()[:-1], "mdb001.pgm")
    with pytest.raises(BadFilm, match="too large: 90000x90000"):
        decode_film(b"P5\n90000 90000\n255\n", "mdb001.pgm")


@pytest.mark.parametrize("white", [100, 255, 1023, 4095, 40_000, 65_535])
def test_pgm_is_scaled_from_its_declared_maxval(white: int) -> None:
    levels = np.linspace(0, white, GRADIENT.size).reshape(GRADIENT.shape)
    stored = levels.astype("u1" if white < 256 else ">u2")
    header = f"P5\n#\n {GRADIENT.shape[1]}\t{GRADIENT.shape[0]}\n{white} ".encode()
    expected = np.rint(stored.astype(float) * 255 / white)
    np.testing.assert_array_equal(decode_film(header + stored.tobytes(), "a.pgm"), expected)
    if white < 65_535:  # a dark film stays dark
        dark = (stored // 20).astype(stored.dtype)
        expected = np.rint(dark.astype(float) * 255 / white)
        np.testing.assert_array_equal(decode_film(header + dark.tobytes(), "a.pgm"), expected)


@pytest.mark.parametrize("header", [b"P5", b"P5 4 4 ", b"P5 4 4 0 ", b"P5 4 4 70000 ", b"P5 4 a 255 ", b"P5 0 4 255 "])
def test_pgm_with_a_wrong_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadFilm, match=r"damaged PGM|no pixels"):
        decode_film(header + bytes(100), "a.pgm")


def test_jpeg_is_told_by_content_not_by_name() -> None:
    content = encoded(Image.fromarray(GRADIENT), "JPEG", quality=95)
    reference = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(decode_film(content, "film.png"), reference)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    content = encoded(Image.fromarray(GRADIENT), "JPEG", progressive=True)
    scan = content[content.index(b"\xff\xda") : -2]
    with pytest.raises(BadFilm, match="JPEG of more than 200 scans"):
        decode_film(content[:-2] + scan * 200 + b"\xff\xd9", "a.jpg")


def test_colour_jpeg_with_four_channels() -> None:
    black = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    assert decode_film(encoded(black, "JPEG"), "a.jpg").max() <= 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"Patient,Name\n", "not a PNG, JPEG or DICOM film although named .png"),
        (b"GIF89a" + bytes(200), "not a PNG, JPEG or DICOM"),
        (b"\x89PNG\r\n\x1a\n", "truncated PNG"),
        (png_bytes(GRADIENT)[:-1], "truncated PNG"),
        (png_bytes(GRADIENT)[:100], "truncated PNG"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:400], "damaged JPEG"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:-30], "damaged JPEG: image file is truncated"),
        (announced_png(0, 5), "no pixels"),
        (announced_png(200, 200), "truncated PNG: pixels of 4 rows, the header says 200"),
        (made_png(4, 4, b""), "truncated PNG"),
        (made_png(4, 4, b"no zlib stream"), "damaged PNG"),
        (made_png(4, 4, zlib.compress(b"\x09abcd" * 4)), "damaged PNG"),  # there are five filters
    ],
)
def test_what_is_no_whole_film_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadFilm, match=reason):
        decode_film(content, "film.png")


def test_a_single_flipped_bit_of_a_png_is_noticed() -> None:
    content = bytearray(png_bytes(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)))
    content[len(content) // 2] ^= 1
    with pytest.raises(BadFilm, match="wrong checksum of the IDAT chunk"):
        decode_film(bytes(content), "film.png")


@pytest.mark.parametrize(
    "content",
    [
        announced_png(10_000, 10_000),
        encoded(Image.fromarray(GRADIENT), "JPEG").replace(struct.pack(">HH", 60, 80), struct.pack(">HH", 9000, 9000)),
    ],
    ids=["png", "jpeg"],
)
def test_too_many_pixels_are_refused_before_decoding(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(BadFilm, match=r"too large: \d+x\d+ is (100|81) megapixels, the limit is 50"):
        decode_film(content, "film.png")


def test_a_comment_that_inflates_without_bounds_is_refused_or_left_alone() -> None:
    body = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    grey, colour = (png_bytes(pixels) for pixels in (GRADIENT, np.stack([GRADIENT] * 3, axis=-1)))
    with pytest.raises(BadFilm, match="damaged PNG: Decompressed data too large"):
        decode_film(colour[:33] + chunk + colour[33:], "film.png")  # after the header chunk
    # Of a plain grey film nothing but the pixels is inflated.
    np.testing.assert_array_equal(decode_film(grey[:33] + chunk + grey[33:], "film.png"), GRADIENT)


@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            bytes(128) + b"DICM",
            b"II*\0",
            b"MM\0*",
            b"P5 8 8 255 ",
            b"\xff\x4f\xff\x51",
            b"\0\0\0\x0cjP  \r\n\x87\n",
            b"\x08\0\x16\0",
        ]
    ),
)
def test_any_bytes_are_a_film_or_refused(content: bytes, start: bytes) -> None:
    try:
        assert decode_film(start + content, "film").dtype == np.uint8
    except BadFilm as error:
        assert str(error).isprintable()  # noqa: PT017


def test_resizing_keeps_to_lanczos() -> None:
    ramp = np.tile(np.linspace(0, 255, 1024), (1024, 1)).astype(np.uint8)
    exact = np.asarray(Image.fromarray(ramp).resize((224, 224), Image.Resampling.LANCZOS))
    resized = resize_film(ramp, 224)
    assert resized.shape == (224, 224)
    assert np.abs(resized.astype(int) - exact).max() <= 1


def test_a_long_thin_film_is_squashed() -> None:
    film = np.zeros((30, 3000), np.uint8)
    film[:, 1500:] = 200
    squashed = resize_film(film, 64)
    assert (squashed[:, :30] < 10).all()
    assert (squashed[:, 34:] > 190).all()


def test_read_film_is_decode_then_resize() -> None:
    content = png_bytes(GRADIENT)
    assert np.array_equal(read_film(content, "a.png", 32, "squash"), resize_film(decode_film(content, "a.png"), 32))
    assert np.array_equal(read_film(png_bytes(GRADIENT[:60, :60]), "a.png", 60, "squash"), GRADIENT[:60, :60])


def test_real_originals_agree_with_lanczos_within_a_grey_level(real_data: Path) -> None:
    for path in sorted((real_data / "nih" / "originals").glob("*.png")):
        with Image.open(path) as image:
            exact = np.asarray(image.convert("L").resize((224, 224), Image.Resampling.LANCZOS), dtype=int)
        assert np.abs(read_film(path.read_bytes(), path.name, 224, "squash") - exact).mean() < 1


def test_real_rgba_originals_equal_their_grey_channel(real_data: Path) -> None:
    coloured = 0
    for path in (real_data / "nih" / "originals").glob("*.png"):
        with Image.open(path) as image:
            if image.mode == "RGBA":
                coloured += 1
                assert np.array_equal(decode_film(path.read_bytes(), path.name), np.asarray(image)[..., 0])
    assert coloured == 2
