"""One film in every encoding that is accepted is one picture, within 2 of 255."""

from __future__ import annotations

import io

import numpy as np
import pytest
from dicom_films import compressed, dicom_film, file_bytes
from lossless_jpeg import encode_lossless_jpeg
from openjpeg.utils import encode_array
from PIL import Image
from png_films import chunk, deep_png
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from radflow.data.images.film import decode_film


def made_film() -> np.ndarray:
    """A smooth film of 12 bits, in the lower three quarters of them, whose grey of 8 bits is not stretched."""
    rows, columns = np.mgrid[0:90, 0:120]
    return np.rint(1700 + 900 * np.sin(rows / 20) + 700 * np.cos(columns / 15)).astype(np.uint16)


FILM = made_film()
GREY = np.rint(FILM * 255.0 / 4095).astype(np.uint8)


def by_pillow(pixels: np.ndarray, form: str, mode: str = "", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def by_pydicom(pixels: np.ndarray = FILM, bits: int = 12, syntax: str = "", **elements: object) -> bytes:
    film = dicom_film(pixels, bits, **elements)
    if syntax in (RLELossless, JPEG2000Lossless):
        film.compress(syntax, generate_instance_uid=False)
    elif syntax:
        film.file_meta.TransferSyntaxUID = syntax
        film.PixelData = pixels.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    return file_bytes(film)


def deep(channels: int) -> np.ndarray:
    return np.stack([FILM] * channels, axis=-1)


def table(values: np.ndarray) -> Dataset:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", [len(values), 0, 16])
    made.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return made


COUNT = np.arange(4096)
SCALED_UP = np.rint(FILM * (65_535 / 4095)).astype(np.uint16)
PGM = f"P5\n{FILM.shape[1]} {FILM.shape[0]}\n"
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}

ENCODINGS = {
    **{f"PNG {mode}": by_pillow(GREY, "PNG", mode) for mode in ("L", "LA", "RGB", "RGBA", "P")},
    **{f"PNG of 12 in 16 bits, {count} channels": deep_png(deep(count)) for count in (1, 2, 3, 4)},
    **{f"PNG of 16 bits, {count} channels": deep_png(deep(count) * 16) for count in (1, 2, 3, 4)},
    "PNG of 8 in 16 bits": deep_png(GREY.astype(np.uint16)),
    "PNG of 16 bits scaled up, with sBIT": deep_png(SCALED_UP, chunk(b"sBIT", b"\x0c")),
    "PNG of 12 bits with sBIT": deep_png(FILM, chunk(b"sBIT", b"\x0c")),
    "JPEG": by_pillow(GREY, "JPEG", quality=98),
    "JPEG RGB": by_pillow(GREY, "JPEG", "RGB", quality=98, subsampling=0),
    "JPEG progressive": by_pillow(GREY, "JPEG", quality=98, progressive=True),
    "PGM": f"{PGM}255\n".encode() + GREY.tobytes(),
    "PGM of 12 bits": f"{PGM}4095\n".encode() + FILM.astype(">u2").tobytes(),
    "PGM of 12 bits by Pillow": by_pillow(FILM, "PPM"),
    "PGM of 16 bits": by_pillow(SCALED_UP, "PPM"),
    **{f"TIFF {mode}": by_pillow(GREY, "TIFF", mode) for mode in ("L", "LA", "RGB", "RGBA", "P")},
    **{
        f"TIFF of 12 in 16 bits, {compression}": by_pillow(FILM, "TIFF", compression=compression)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
    "TIFF of 16 bits": by_pillow(SCALED_UP, "TIFF"),
    **{f"JPEG 2000 {mode}": by_pillow(GREY, "JPEG2000", mode) for mode in ("L", "RGB", "RGBA")},
    "JPEG 2000 of 12 bits": bytes(encode_array(FILM, bits_stored=12, photometric_interpretation=2)),
    "JPEG 2000 of 12 in 16 bits": bytes(encode_array(FILM, bits_stored=16, photometric_interpretation=2)),
    "DICOM": by_pydicom(),
    "DICOM of 8 bits": by_pydicom(GREY, 8),
    "DICOM of 12 in 16 bits": by_pydicom(bits=16),
    "DICOM of 16 bits": by_pydicom(SCALED_UP, 16),
    "DICOM, signed": by_pydicom(FILM.astype("i2") - 2048),
    "DICOM, signed, rescaled": by_pydicom(FILM.astype("i2") - 2048, RescaleSlope=1, RescaleIntercept=2048, **WINDOW),
    "DICOM, MONOCHROME1": by_pydicom(4095 - FILM, PhotometricInterpretation="MONOCHROME1"),
    "DICOM, INVERSE": by_pydicom(
        4095 - FILM, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **WINDOW
    ),
    "DICOM, falling slope": by_pydicom(4095 - FILM, RescaleSlope=-1, RescaleIntercept=4095, **WINDOW),
    "DICOM, modality table": by_pydicom(4095 - FILM, ModalityLUTSequence=[table(COUNT[::-1])]),
    "DICOM, table of interest": by_pydicom(VOILUTSequence=[table(COUNT)]),
    "DICOM, table of interest of 16 bits": by_pydicom(VOILUTSequence=[table(COUNT * 16)]),
    **{
        f"DICOM, {syntax.name}": by_pydicom(syntax=syntax)
        for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless)
    },
    "DICOM without preamble": by_pydicom()[132:],
    "DICOM, lossless JPEG": file_bytes(compressed(dicom_film(FILM), JPEGLosslessSV1, encode_lossless_jpeg(FILM, 12))),
    "DICOM, baseline JPEG": file_bytes(
        compressed(dicom_film(GREY, 8), JPEGBaseline8Bit, by_pillow(GREY, "JPEG", quality=98))
    ),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_film_is_one_picture_in_every_encoding(encoding: str) -> None:
    shown = decode_film(ENCODINGS[encoding], "")
    assert np.abs(shown.astype(int) - GREY).max() <= 2
