from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from lossless_jpeg import encode_lossless_jpeg
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from radflow.data.dicom import read_dicom_shape
from radflow.data.images import BadFilm, decode_film

SMOOTH = np.add.outer(np.arange(40) * 30, np.arange(64) * 40).astype(np.uint16)  # 0 to 3690, in 12 bits
PYDICOM_FILMS = Path(pydicom.__file__).parent / "data" / "test_files"


def dicom_film(pixels: np.ndarray = SMOOTH, bits: int = 12, **elements: object) -> Dataset:
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape[:2]
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit = 8 * pixels.itemsize, bits, bits - 1
    film.PixelRepresentation = int(pixels.dtype.kind == "i")
    film.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(film, name, value)
    return film


def compressed(film: Dataset, syntax: str, frame: bytes) -> Dataset:
    film.file_meta.TransferSyntaxUID = syntax
    film.PixelData = encapsulate([frame])
    film["PixelData"].VR = "OB"
    return film


def file_bytes(film: Dataset) -> bytes:
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decode(film: Dataset) -> np.ndarray:
    return decode_film(file_bytes(film), "film.dcm")


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)


def test_without_a_window_deep_pixels_are_stretched() -> None:
    assert np.array_equal(decode(dicom_film()), stretched(SMOOTH.astype(float), 0, SMOOTH.max()))


def test_without_a_window_eight_bits_stay_as_they_are() -> None:
    pixels = np.arange(50, 150, dtype=np.uint8).reshape(10, 10)
    assert np.array_equal(decode(dicom_film(pixels, bits=8)), pixels)


def test_the_shape_is_read_from_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.dicom.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    path = tmp_path / "film.dcm"
    path.write_bytes(file_bytes(dicom_film())[: -SMOOTH.nbytes // 2])
    assert read_dicom_shape(path) == SMOOTH.shape
    path.write_bytes(b"no film")
    with pytest.raises(BadFilm, match="damaged DICOM"):
        read_dicom_shape(path)


@pytest.mark.parametrize("bits", [9, 10, 14, 16])
def test_every_depth_is_stretched_from_what_it_uses(bits: int) -> None:
    pixels = np.add.outer(np.arange(40), np.arange(64) * 2**bits // 64).clip(0, 2**bits - 1).astype(np.uint16)
    assert np.array_equal(decode(dicom_film(pixels, bits)), stretched(pixels.astype(float), 0, pixels.max()))


def test_what_is_in_the_bits_above_those_stored_is_no_part_of_the_film() -> None:
    # Older devices kept overlays there (PS3.5, 8.1.2).
    assert np.array_equal(decode(dicom_film(SMOOTH | np.uint16(0x5000))), decode(dicom_film()))
    signed = ((SMOOTH.astype(np.int16) - 2000) & 0x0FFF).astype(np.int16)
    assert np.array_equal(decode(dicom_film(signed)), decode(dicom_film()))


def test_a_modality_table_goes_before_the_window() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], [4095 - value for value in range(4096)]
    film = dicom_film(ModalityLUTSequence=[table], WindowCenter=2096, WindowWidth=1000)
    film.ModalityLUTSequence[0]["LUTDescriptor"].VR = film.ModalityLUTSequence[0]["LUTData"].VR = "US"
    plain = dicom_film(4095 - SMOOTH, WindowCenter=2096, WindowWidth=1000)
    assert np.array_equal(decode(film), decode(plain))


def test_monochrome1_is_inverted() -> None:
    inverted = decode(dicom_film(PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(inverted.astype(int) + decode(dicom_film()) - 255).max() <= 1
    assert inverted[0, 0] == 255


def test_window_saturates_outside_and_is_linear_inside() -> None:
    # DICOM PS3.3 C.11.2.1.2: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * range
    shown = np.clip((SMOOTH - 1999.5) / 999 + 0.5, 0, 1) * 255
    grey = decode(dicom_film(WindowCenter=2000, WindowWidth=1000))
    assert np.abs(grey - shown).max() <= 1
    assert (grey[SMOOTH < 1500] == 0).all()
    assert (grey[SMOOTH > 2500] == 255).all()


def test_the_first_of_several_windows_counts() -> None:
    several = decode(dicom_film(WindowCenter=[2000, 10], WindowWidth=[1000, 5]))
    assert np.array_equal(several, decode(dicom_film(WindowCenter=2000, WindowWidth=1000)))


def test_window_is_in_rescaled_values() -> None:
    rescaled = dicom_film(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2000)
    plain = dicom_film(WindowCenter=2000, WindowWidth=1000)
    assert np.abs(decode(rescaled).astype(int) - decode(plain)).max() <= 1


def test_sigmoid_window() -> None:
    grey = decode(dicom_film(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    assert np.abs(grey - 255 / (1 + np.exp(-4 * (SMOOTH.astype(float) - 2000) / 1000))).max() <= 1


def test_table_goes_before_window() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 8], [255 - value // 16 for value in range(4096)]
    film = dicom_film(VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    film.VOILUTSequence[0]["LUTDescriptor"].VR = film.VOILUTSequence[0]["LUTData"].VR = "US"
    assert np.array_equal(decode(film), 255 - SMOOTH // 16)


def test_signed_pixels_and_padding() -> None:
    pixels = (SMOOTH.astype(np.int16) - 1000).copy()
    pixels[:5] = -2000
    grey = decode(dicom_film(pixels, bits=16, PixelPaddingValue=-2000))
    inside = pixels[5:].astype(float)
    assert np.array_equal(grey[5:], stretched(inside, inside.min(), inside.max()))
    assert (grey[:5] == 0).all()


def test_a_film_of_one_value_does_not_divide_by_zero() -> None:
    assert decode(dicom_film(np.full((8, 8), 7, np.uint16))).max() == 0


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compressions_give_the_same_film(syntax: str) -> None:
    film = dicom_film()
    film.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(decode(film), decode(dicom_film()))


def test_lossy_jpeg_2000_is_close() -> None:
    film = dicom_film()
    film.compress(JPEG2000, j2k_psnr=[80], generate_instance_uid=False)
    assert np.abs(decode(film).astype(int) - decode(dicom_film())).max() <= 1


def test_implicit_value_representations_are_read() -> None:
    film = dicom_film()
    film.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert np.array_equal(decode(film), decode(dicom_film()))


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
    pixels = pydicom.dcmread(path).pixel_array.astype(float)
    assert np.array_equal(decode_film(path.read_bytes(), "a.dcm"), stretched(pixels, pixels.min(), pixels.max()))


@pytest.mark.parametrize("name", ["MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_one_film_in_four_encodings(name: str) -> None:
    reference = decode_film((PYDICOM_FILMS / "MR_small_bigendian.dcm").read_bytes(), "a.dcm")
    assert np.array_equal(decode_film((PYDICOM_FILMS / f"{name}.dcm").read_bytes(), "a.dcm"), reference)


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        (dicom_film(NumberOfFrames=3), "multi-frame DICOM: 3 frames"),
        (dicom_film(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "colour DICOM: RGB with 3 samples"),
        (dicom_film(PhotometricInterpretation="PALETTE COLOR"), "colour DICOM: PALETTE COLOR"),
        (dicom_film(Rows=20_000, Columns=10_000), "too large: 10000x20000 is 200 megapixels"),
        (dicom_film(BitsAllocated=32), "12 bits stored in 32"),
        (dicom_film(HighBit=15), "12 bits end at bit 15, expected 11"),
        (dicom_film(Rows=50), "damaged DICOM: The number of bytes of pixel data is less than expected"),
    ],
)
def test_unfit_films_are_refused_with_the_reason(film: Dataset, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_bytes(film)
    if "less than expected" not in reason:
        monkeypatch.setattr("radflow.data.dicom.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(BadFilm, match=reason):
        decode_film(content, "film.dcm")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtdose", "multi-frame DICOM: 15 frames"),
        ("SC_rgb_rle_2frame", "multi-frame DICOM: 2 frames"),
        ("SC_rgb_jpeg_dcmtk", "colour DICOM: YBR_FULL with 3 samples"),
        ("examples_palette", "colour DICOM: PALETTE COLOR"),
        ("test-SR", "without pixel data"),
        ("waveform_ecg", "without pixel data"),
        ("MR_truncated", "damaged DICOM: The number of bytes of pixel data is less than expected"),
        ("JPEG-lossy", "damaged DICOM: .* A misplaced marker segment was found"),
    ],
)
def test_files_of_pydicom_that_are_no_films_are_refused(name: str, reason: str) -> None:
    with pytest.raises(BadFilm, match=reason):
        decode_film((PYDICOM_FILMS / f"{name}.dcm").read_bytes(), "a.dcm")


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(BadFilm, match="Window Width must be greater"):
        decode(dicom_film(WindowCenter=2000, WindowWidth=0))


def test_missing_pixels_are_refused() -> None:
    film = dicom_film()
    del film.PixelData
    with pytest.raises(BadFilm, match="without pixel data"):
        decode(film)


def test_deflated_files_are_refused() -> None:
    content = (PYDICOM_FILMS / "image_dfl.dcm").read_bytes()
    with pytest.raises(BadFilm, match="deflated"):
        decode_film(content, "film.dcm")


def test_a_frame_larger_than_its_header_says_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.dicom.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    jpeg = encode_lossless_jpeg(SMOOTH, bits=12).replace(struct.pack(">HH", 40, 64), struct.pack(">HH", 60_000, 60_000))
    with pytest.raises(BadFilm, match="header says 64x40 pixels, its compressed frame 60000x60000"):
        decode(compressed(dicom_film(), JPEGLosslessSV1, jpeg))
    film = dicom_film()
    film.compress(JPEG2000Lossless, generate_instance_uid=False)
    film.PixelData = film.PixelData.replace(struct.pack(">II", 64, 40), struct.pack(">II", 60_000, 60_000), 1)
    with pytest.raises(BadFilm, match="its compressed frame 60000x60000"):
        decode(film)


def test_a_compressed_frame_that_is_cut_short_is_refused() -> None:
    frame = encode_lossless_jpeg(SMOOTH, bits=12)[:-500]
    with pytest.raises(BadFilm, match="no end marker"):
        decode(compressed(dicom_film(), JPEGLosslessSV1, frame))


def test_damaged_run_lengths_are_not_fatal() -> None:
    film = dicom_film()
    film.compress(RLELossless, generate_instance_uid=False)
    content = bytearray(file_bytes(film))
    content[-208:-8] = b"\x80" * 200  # no pixels, where some should be
    with pytest.raises(BadFilm, match="damaged DICOM"):
        decode_film(bytes(content), "film.dcm")
    content[-208:-8] = b"\x81\x07" * 100  # runs of 128 pixels, far more than the film has: the plugin would panic
    assert decode_film(bytes(content), "film.dcm").shape == SMOOTH.shape


def test_real_films_are_as_pydicom_shows_them(real_data: Path) -> None:
    films = sorted((real_data / "dicom").glob("*.dcm"))
    assert len(films) == 5
    for path in films:
        header = pydicom.dcmread(path)
        assert header.PhotometricInterpretation == "MONOCHROME2"
        shown = apply_voi_lut(apply_modality_lut(header.pixel_array, header), header).astype(float)
        low, high = (0, 255) if header.BitsStored == 8 else (shown.min(), shown.max())
        assert np.array_equal(decode_film(path.read_bytes(), path.name), stretched(shown, low, high))
