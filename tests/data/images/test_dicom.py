from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_films import SMOOTH, compressed, decode, dicom_film, file_bytes, scaled
from lossless_jpeg import encode_lossless_jpeg
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from radflow.data.images.dicom import read_dicom_shape
from radflow.data.images.film import BadFilm, decode_film, is_dicom

PYDICOM_FILMS = Path(pydicom.__file__).parent / "data" / "test_files"
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
FALSE_SIZE = struct.pack(">HH", 60_000, 60_000)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where pixels are decoded."""
    monkeypatch.setattr("radflow.data.images.dicom_frame.pixel_array", lambda *_, **__: pytest.fail("decoded"))


def jpeg_2000(film: Dataset) -> bytes:
    """The codestream of a film."""
    film.compress(JPEG2000Lossless, generate_instance_uid=False)
    frame = film.PixelData
    return frame[frame.index(b"\xff\x4f\xff\x51") : frame.index(b"\xff\xd9", 40) + 2]


# One film in every transfer syntax.


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("pixels", [SMOOTH, SMOOTH.astype(np.int16) - 2000], ids=["unsigned", "signed"])
def test_native_syntaxes_are_read(syntax: str, pixels: np.ndarray) -> None:
    film = dicom_film(pixels)
    film.file_meta.TransferSyntaxUID = syntax
    film.PixelData = pixels.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    assert np.array_equal(decode(film), decode(dicom_film(pixels)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [SMOOTH, SMOOTH.astype(np.int16) - 2000, SMOOTH // 16], ids=str)
def test_lossless_compressions_give_the_same_film(syntax: str, pixels: np.ndarray) -> None:
    bits, pixels = (8, pixels.astype(np.uint8)) if pixels.max() < 256 else (12, pixels)
    film = dicom_film(pixels, bits)
    film.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(decode(film), decode(dicom_film(pixels, bits)))


def test_lossy_jpeg_2000_is_close() -> None:
    film = dicom_film()
    film.compress(JPEG2000, j2k_psnr=[80], generate_instance_uid=False)
    assert np.abs(decode(film).astype(int) - decode(dicom_film())).max() <= 1


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
def test_lossless_jpeg_gives_the_same_film(syntax: str) -> None:
    film = compressed(dicom_film(), syntax, encode_lossless_jpeg(SMOOTH, bits=12))
    assert np.array_equal(decode(film), decode(dicom_film()))


def test_baseline_jpeg_is_as_pillow_decodes_it() -> None:
    pixels = (SMOOTH // 16).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    grey = decode(compressed(dicom_film(pixels, bits=8), JPEGBaseline8Bit, buffer.getvalue()))
    assert np.abs(grey.astype(int) - np.asarray(Image.open(buffer))).max() <= 1


def test_extended_jpeg_of_12_bits_is_as_pydicom_decodes_it() -> None:
    path = PYDICOM_FILMS / "JPGExtended.dcm"
    film = pydicom.dcmread(path)
    assert np.array_equal(decode_film(path.read_bytes(), "a.dcm"), scaled(film.pixel_array, 0, 2**film.BitsStored - 1))


@pytest.mark.parametrize("name", ["MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_one_film_in_four_encodings(name: str) -> None:
    reference = decode_film((PYDICOM_FILMS / "MR_small_bigendian.dcm").read_bytes(), "a.dcm")
    assert np.array_equal(decode_film((PYDICOM_FILMS / f"{name}.dcm").read_bytes(), "a.dcm"), reference)


# Files as they are found.


def test_an_odd_number_of_bytes_may_be_padded() -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert np.array_equal(decode(dicom_film(pixels, bits=8, PixelData=pixels.tobytes() + b"\0")), pixels)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("meta", [True, False], ids=["meta", "no meta"])
def test_films_without_a_preamble_are_read(syntax: str, meta: bool) -> None:
    film = dicom_film()
    film.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        film.PixelData = SMOOTH.astype(">u2").tobytes()
    content = file_bytes(film)[132:]
    if not meta:
        content = content[12 + int.from_bytes(content[8:12], "little") :]
    assert is_dicom(content[:132])
    assert np.array_equal(decode_film(content, ""), decode(dicom_film()))


@pytest.mark.parametrize(
    "head", [b"", b"\x08", b"\x08\0\x16\0", bytes(132), b"\x08\0\0\0\0\0\1\0" + bytes(200), b"RIFF" * 40]
)
def test_other_files_are_not_taken_for_films_without_a_preamble(head: bytes) -> None:
    assert not is_dicom(head[:132]) or head == b"\x08\0\x16\0"


def test_a_preamble_may_be_that_of_a_tiff() -> None:
    content = file_bytes(dicom_film())
    assert np.array_equal(decode_film(b"II*\0\x10\0\0\0" + content[8:], "a.tif"), decode(dicom_film()))


# What is refused, and before what.


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        (dicom_film(NumberOfFrames=3), "multi-frame DICOM: 3 frames"),
        (dicom_film(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "colour DICOM: RGB with 3 samples"),
        (dicom_film(SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422"), "colour DICOM: YBR_FULL_422"),
        (dicom_film(PhotometricInterpretation="PALETTE COLOR"), "colour DICOM: PALETTE COLOR"),
        (dicom_film(Rows=20_000, Columns=10_000), "too large: 10000x20000 is 200 megapixels"),
        (dicom_film(Rows=0), "no pixels"),
        (dicom_film(BitsAllocated=32), "12 bits stored in 32"),
        (dicom_film(BitsStored=17), "17 bits stored in 16"),
        (dicom_film(HighBit=15), "12 bits end at bit 15, expected 11"),
        (dicom_film(PixelRepresentation=2), "PixelRepresentation 2, expected 0 or 1"),
        (dicom_film(BitsStored=None), "damaged DICOM: it has no BitsStored"),
        (dicom_film(Rows=50), "damaged DICOM: 5,120 bytes of pixel data, expected 6,400 for 64x50 pixels of 16 bits"),
        (dicom_film(Columns=62), "damaged DICOM: 5,120 bytes of pixel data, expected 4,960"),
        (dicom_film(Rows=20), "damaged DICOM: 5,120 bytes of pixel data, expected 2,560"),
        (dicom_film(PixelData=SMOOTH.tobytes() + b"\0\0"), "damaged DICOM: 5,122 bytes of pixel data"),
        (dicom_film(PresentationIntentType="FOR PROCESSING"), "export the view as FOR PRESENTATION"),
        (dicom_film(SOPClassUID=DigitalMammographyXRayImageStorageForProcessing), "FOR PROCESSING DICOM"),
        (compressed(dicom_film(), ENCAPSULATED_UNCOMPRESSED, SMOOTH.tobytes()), "which is not read"),
    ],
)
@pytest.mark.usefixtures("undecoded")
def test_unfit_films_are_refused_with_the_reason(film: Dataset, reason: str) -> None:
    with pytest.raises(BadFilm, match=reason):
        decode(film)


def test_mammograms_for_presentation_are_read() -> None:
    film = dicom_film(PresentationIntentType="FOR PRESENTATION")
    film.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    assert np.array_equal(decode(film), decode(dicom_film()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtdose", "multi-frame DICOM: 15 frames"),
        ("SC_rgb_rle_2frame", "multi-frame DICOM: 2 frames"),
        ("SC_rgb_jpeg_dcmtk", "colour DICOM: YBR_FULL with 3 samples"),
        ("examples_palette", "colour DICOM: PALETTE COLOR"),
        ("test-SR", "without pixel data"),
        ("waveform_ecg", "without pixel data"),
        ("MR_truncated", "bytes of pixel data, expected 8,192 for 64x64 pixels"),
        ("JPEG-lossy", "JPEG of 0 frame headers|damaged DICOM"),
        ("image_dfl", "deflated"),
    ],
)
def test_files_of_pydicom_that_are_no_films_are_refused(name: str, reason: str) -> None:
    with pytest.raises(BadFilm, match=reason):
        decode_film((PYDICOM_FILMS / f"{name}.dcm").read_bytes(), "a.dcm")


def test_missing_pixels_are_refused() -> None:
    film = dicom_film()
    del film.PixelData
    with pytest.raises(BadFilm, match="without pixel data"):
        decode(film)


def deflated(meta_bytes: int) -> bytes:
    """A film of zeros whose dataset is deflated, with so many bytes before the syntax in its meta information."""
    plain = file_bytes(dicom_film(np.zeros((4000, 4000), np.uint16)))
    start = 144 + int.from_bytes(plain[140:144], "little")
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packing.compress(plain[start:]) + packing.flush()
    version = b"\2\0\1\0OB\0\0" + struct.pack("<L", meta_bytes) + bytes(meta_bytes)
    syntax = b"\2\0\x10\0UI\x16\0" + b"1.2.840.10008.1.2.1.99"
    length = b"\2\0\0\0UL\4\0" + struct.pack("<L", len(version + syntax))
    return bytes(128) + b"DICM" + length + version + syntax + packed


@pytest.mark.parametrize("meta_bytes", [2, 5000, 100_000])
def test_deflated_films_are_refused_wherever_their_syntax_stands(
    meta_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydicom.filereader.zlib.decompress", lambda *_: pytest.fail("inflated"))
    content = deflated(meta_bytes)
    assert len(content) < 200_000
    for film in (content, content[132:]):
        with pytest.raises(BadFilm, match="deflated DICOM is not read"):
            decode_film(film, "film.dcm")
        with pytest.raises(BadFilm, match="deflated DICOM is not read"):
            read_dicom_shape(io.BytesIO(film))


# The header alone.


@pytest.mark.usefixtures("undecoded")
def test_the_shape_is_read_from_the_header_alone() -> None:
    torn = file_bytes(dicom_film())[: -SMOOTH.nbytes // 2]
    assert read_dicom_shape(io.BytesIO(torn)) == SMOOTH.shape
    for content, reason in (
        (b"no film", "damaged DICOM"),
        (file_bytes(dicom_film(Rows=20_000, Columns=20_000)), "too large: 20000x20000"),
        (file_bytes(dicom_film(Rows=0)), "no pixels"),
        (file_bytes(dicom_film(Rows=None)), "damaged DICOM: it has no Rows"),
    ):
        with pytest.raises(BadFilm, match=reason):
            read_dicom_shape(io.BytesIO(content))


def test_what_is_not_wanted_of_a_header_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(
        "radflow.data.images.dicom.show", lambda film, stored: read.append(film) or stored.astype(np.uint8)
    )
    decode(dicom_film(ImageComments="a" * 10_000))
    assert "ImageComments" not in read[0]


# Compressed frames that are not what the header says.


@pytest.mark.usefixtures("undecoded")
def test_a_frame_larger_than_its_header_says_is_refused_before_decoding() -> None:
    jpeg = encode_lossless_jpeg(SMOOTH, bits=12).replace(struct.pack(">HH", 40, 64), FALSE_SIZE)
    with pytest.raises(BadFilm, match="header says 64x40 pixels, its compressed frame 60000x60000"):
        decode(compressed(dicom_film(), JPEGLosslessSV1, jpeg))
    large = jpeg_2000(dicom_film()).replace(struct.pack(">II", 64, 40), struct.pack(">II", 60_000, 60_000))
    with pytest.raises(BadFilm, match="its compressed frame 60000x60000"):
        decode(compressed(dicom_film(), JPEG2000Lossless, large))


@pytest.mark.usefixtures("undecoded")
def test_a_false_size_before_the_codestream_is_not_believed() -> None:
    large = jpeg_2000(dicom_film(np.zeros((400, 640), np.uint16)))
    true = jpeg_2000(dicom_film())
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I", 8 + len(true)) + b"free" + true
    frame = boxes + struct.pack(">I", 8 + len(large)) + b"jp2c" + large
    with pytest.raises(BadFilm, match="header says 64x40 pixels, its compressed frame 640x400"):
        decode(compressed(dicom_film(), JPEG2000Lossless, frame))


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (b"\xff\xde\0\x0b\x0c" + FALSE_SIZE + b"\1\1\x11\0", "size is changed by marker FFDE"),
        (b"\xff\xc3\0\x0b\x0c" + FALSE_SIZE + b"\1\1\x11\0", "JPEG of 2 frame headers"),
        (b"\xff\xdc\0\4\xea\x60", "size is changed by marker FFDC"),
        (b"\xff\xda\0\3\0" * 201, "JPEG of more than 200 scans"),
    ],
)
@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.usefixtures("undecoded")
def test_markers_that_decoders_may_believe_are_refused(segment: bytes, reason: str, at_start: bool) -> None:
    jpeg = encode_lossless_jpeg(SMOOTH, bits=12)
    frame = jpeg[:2] + segment + jpeg[2:] if at_start else jpeg[:-2] + segment + jpeg[-2:]
    with pytest.raises(BadFilm, match=reason):
        decode(compressed(dicom_film(), JPEGLosslessSV1, frame))


@pytest.mark.usefixtures("undecoded")
def test_a_frame_of_other_samples_than_its_header_says_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).convert("RGB").save(buffer, "JPEG")
    with pytest.raises(BadFilm, match="its compressed frame 3 samples of 8 bits"):
        decode(compressed(dicom_film(RAMP, bits=8), JPEGBaseline8Bit, buffer.getvalue()))
    with pytest.raises(BadFilm, match="of 8 bits, its compressed frame 1 samples of 12 bits"):
        film = dicom_film(SMOOTH.astype(np.uint8), bits=8)
        decode(compressed(film, JPEGLosslessSV1, encode_lossless_jpeg(SMOOTH, bits=12)))
    with pytest.raises(BadFilm, match="compressed frame is not JPEG"):
        decode(compressed(dicom_film(), JPEGLosslessSV1, b"BM" + bytes(100)))


@pytest.mark.parametrize("offsets", [True, False])
@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
@pytest.mark.usefixtures("undecoded")
def test_two_compressed_frames_are_refused_though_the_header_has_one(syntax: str, offsets: bool) -> None:
    frame = {JPEGLosslessSV1: encode_lossless_jpeg(SMOOTH, bits=12), JPEG2000Lossless: jpeg_2000(dicom_film())}
    made = frame.get(syntax, struct.pack("<16L", 2, 64, 66, *[0] * 13) + b"\0\0\0\0")
    with pytest.raises(BadFilm, match="multi-frame DICOM: 2 compressed frames"):
        decode(compressed(dicom_film(), syntax, made, made, offsets=offsets))


def test_a_frame_in_several_fragments_is_one_frame() -> None:
    film = dicom_film()
    frame = jpeg_2000(dicom_film())
    film.file_meta.TransferSyntaxUID = JPEG2000Lossless
    film.PixelData = pydicom.encaps.encapsulate([frame], fragments_per_frame=3, has_bot=False)
    film["PixelData"].VR = "OB"
    assert np.array_equal(decode(film), decode(dicom_film()))


@pytest.mark.usefixtures("undecoded")
def test_a_compressed_frame_that_is_cut_short_is_refused() -> None:
    frame = encode_lossless_jpeg(SMOOTH, bits=12)[:-500]
    with pytest.raises(BadFilm, match="no end marker"):
        decode(compressed(dicom_film(), JPEGLosslessSV1, frame))


def run_lengths(*planes: bytes) -> bytes:
    starts = np.cumsum([64, *map(len, planes)])[:-1].tolist()
    return struct.pack("<16L", len(planes), *starts, *[0] * (15 - len(planes))) + b"".join(planes)


@pytest.mark.usefixtures("undecoded")
def test_run_lengths_that_make_more_than_the_film_are_refused_before_decoding() -> None:
    right = b"\x81\0" * 20  # 20 runs of 128 make 40x64 pixels
    bomb = b"\x81\0" * 500_000  # 1 MB that would become 64
    for planes, reason in (
        ((right, bomb), "run lengths make more than its 64x40 pixels"),
        ((bomb, right), "run lengths make more than its 64x40 pixels"),
        ((right,), "DICOM of 1 run-length planes, expected 2"),
    ):
        with pytest.raises(BadFilm, match=reason):
            decode(compressed(dicom_film(), RLELossless, run_lengths(*planes)))


def test_damaged_run_lengths_are_not_fatal() -> None:
    right = b"\x81\7" * 20
    film = compressed(dicom_film(), RLELossless, run_lengths(right, right))
    assert np.array_equal(decode(film), np.full(SMOOTH.shape, round(0x707 * 255 / 4095)))
    for damaged in (b"\x80" * 40, b"\x81\7" * 10, b"\x7f\7\7"):  # no pixels, too few, a literal run cut short
        with pytest.raises(BadFilm, match="damaged DICOM"):
            decode(compressed(dicom_film(), RLELossless, run_lengths(right, damaged)))
