from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_films import SMOOTH, decode, dicom_film, scaled
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_presentation_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from radflow.data.images.film import BadFilm, decode_film

SIGNED = SMOOTH.astype(np.int16) - 2000
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def table(values: list[int] | bytes, first: int = 0, bits: int = 16, entries: int = 0, signed: bool = False) -> Dataset:
    made = Dataset()
    entries = entries or len(values)
    made.add_new("LUTDescriptor", "SS" if signed else "US", [entries if entries < 65_536 else 0, first, bits])
    made.add_new("LUTData", "OW" if isinstance(values, bytes) else "US", values)
    return made


# Without a window.


def test_without_a_window_the_declared_bits_are_shown() -> None:
    assert np.array_equal(decode(dicom_film()), scaled(SMOOTH, 0, 4095))
    assert np.array_equal(decode(dicom_film(SMOOTH // 4)), scaled(SMOOTH // 4, 0, 4095))
    assert np.array_equal(decode(dicom_film(SIGNED)), scaled(SIGNED, -2048, 2047))


@pytest.mark.parametrize("bits", range(8, 17))
def test_bits_that_only_say_how_values_are_stored_are_guessed(bits: int) -> None:
    pixels = np.linspace(0, 2**bits - 1, SMOOTH.size).reshape(SMOOTH.shape).astype(np.uint16)
    pixels[0, 0] = 65_535  # a hot one
    assert np.array_equal(decode(dicom_film(pixels, bits=16)), scaled(pixels, 0, 2**bits - 1))


@pytest.mark.parametrize("elements", [{}, {"RescaleSlope": 1, "RescaleIntercept": 0}, {"RescaleSlope": 7.5}])
def test_eight_bits_stay_as_they_are(elements: dict[str, float]) -> None:
    pixels = np.arange(50, 150, dtype=np.uint8).reshape(10, 10)
    assert np.array_equal(decode(dicom_film(pixels, bits=8, **elements)), pixels)


@pytest.mark.parametrize("pixels", [SMOOTH, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("slope", [-0.5, -3, 4])
def test_rescaling_alone_turns_the_film_at_most_into_its_negative(pixels: np.ndarray, slope: float) -> None:
    shown = decode(dicom_film(pixels, RescaleSlope=slope, RescaleIntercept=77)).astype(int)
    plain = decode(dicom_film(pixels)).astype(int)
    assert np.abs(shown - (plain if slope > 0 else 255 - plain)).max() <= 1


def test_what_is_in_the_bits_above_those_stored_is_no_part_of_the_film() -> None:
    # Older devices kept overlays there (PS3.5, 8.1.2).
    assert np.array_equal(decode(dicom_film(SMOOTH | np.uint16(0x5000))), decode(dicom_film()))
    masked = (SIGNED & 0x0FFF).astype(np.int16)
    assert np.array_equal(decode(dicom_film(masked)), decode(dicom_film(SIGNED)))


# The modality.


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
def test_empty_rescaling_is_none(name: str) -> None:
    assert np.array_equal(decode(dicom_film(RescaleSlope=None, RescaleIntercept=None)), decode(dicom_film()))
    assert np.array_equal(decode(dicom_film(WindowCenter=2000, WindowWidth=1000, **{name: None})), window())


def window(pixels: np.ndarray = SMOOTH) -> np.ndarray:
    return decode(dicom_film(pixels, WindowCenter=2000, WindowWidth=1000))


@pytest.mark.parametrize("elements", [{"RescaleSlope": 0}, {"RescaleSlope": "nan"}, {"RescaleIntercept": "inf"}])
def test_rescaling_that_makes_no_picture_is_refused(elements: dict[str, float]) -> None:
    with pytest.raises(BadFilm, match="DICOM of Rescale"):
        decode(dicom_film(**elements))


def test_a_modality_table_goes_before_the_window() -> None:
    film = dicom_film(ModalityLUTSequence=[table([4095 - value for value in range(4096)])])
    film.WindowCenter, film.WindowWidth = 2000, 1000
    assert np.array_equal(decode(film), window(4095 - SMOOTH))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("packed", [bytes(range(255, -1, -1)), np.arange(255, -1, -1, "<u2").tobytes()])
def test_a_modality_table_of_8_bits_is_read_packed_or_not(packed: bytes, bits: int) -> None:
    film = dicom_film(RAMP, bits=8, ModalityLUTSequence=[table(packed, bits=bits, entries=256)])
    assert np.array_equal(decode(film), 255 - RAMP)


def test_a_modality_table_of_8_bits_packed_in_words_that_are_given_as_numbers() -> None:
    words = np.frombuffer(bytes(range(255, -1, -1)), "<u2").tolist()
    film = dicom_film(RAMP, bits=8, ModalityLUTSequence=[table(words, bits=8, entries=256)])
    assert np.array_equal(decode(film), 255 - RAMP)


def test_the_words_of_a_table_are_in_the_order_of_the_file() -> None:
    film = dicom_film(
        RAMP, bits=8, ModalityLUTSequence=[table(np.arange(4080, -16, -16, ">u2").tobytes(), entries=256)]
    )
    film.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert np.array_equal(decode(film), scaled(4080 - 16 * RAMP.astype(int), 0, 4095))
    packed = np.frombuffer(bytes(range(255, -1, -1)), "<u2").astype(">u2").tobytes()
    film.ModalityLUTSequence = [table(packed, bits=8, entries=256)]
    assert np.array_equal(decode(film), 255 - RAMP)


def test_a_table_of_fewer_entries_than_it_says_is_refused() -> None:
    with pytest.raises(BadFilm, match="lookup table of 10 words, expected 256 entries"):
        decode(dicom_film(ModalityLUTSequence=[table(bytes(20), entries=256)]))


# Values of interest.


def test_linear_window_saturates_outside_and_is_linear_inside() -> None:
    # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * range
    assert np.abs(window() - np.clip((SMOOTH - 1999.5) / 999 + 0.5, 0, 1) * 255).max() <= 0.5
    assert (window()[SMOOTH < 1500] == 0).all()
    assert (window()[SMOOTH > 2500] == 255).all()


def test_exact_and_sigmoid_windows() -> None:
    # PS3.3 C.11.2.1.3.2 and C.11.2.1.3.1
    exact = decode(dicom_film(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"))
    assert np.abs(exact - np.clip((SMOOTH - 2000.0) / 1000 + 0.5, 0, 1) * 255).max() <= 0.5
    sigmoid = decode(dicom_film(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="sigmoid "))
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4 * (SMOOTH - 2000.0) / 1000))).max() <= 0.5


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_falling_slope_with_a_window_is_the_same_picture(function: str, photometric: str) -> None:
    elements = {"WindowCenter": 2000, "WindowWidth": 2500, "VOILUTFunction": function}
    plain = decode(dicom_film(PhotometricInterpretation=photometric, **elements))
    falling = dicom_film(4095 - SMOOTH, PhotometricInterpretation=photometric, **elements)
    falling.RescaleSlope, falling.RescaleIntercept = -1, 4095
    assert plain.std() > 50
    assert np.array_equal(decode(falling), plain)


def test_window_is_in_rescaled_values() -> None:
    rescaled = dicom_film(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2000)
    assert np.abs(decode(rescaled).astype(int) - window()).max() <= 1


def test_the_first_of_several_windows_counts() -> None:
    assert np.array_equal(decode(dicom_film(WindowCenter=[2000, 10], WindowWidth=[1000, 5])), window())


@pytest.mark.parametrize(
    "elements", [{"WindowCenter": None, "WindowWidth": None}, {"WindowCenter": 5}, {"WindowWidth": 5}]
)
def test_an_empty_or_half_window_is_none(elements: dict[str, object]) -> None:
    assert np.array_equal(decode(dicom_film(**elements)), decode(dicom_film()))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2000, 0), (2000, -5), ("nan", 100), (2000, "nan"), (2000, "inf")])
def test_a_window_that_makes_no_picture_is_refused(function: str, center: object, width: object) -> None:
    with pytest.raises(BadFilm, match="DICOM of Window"):
        decode(dicom_film(WindowCenter=center, WindowWidth=width, VOILUTFunction=function))


def test_a_window_of_one_value_is_a_threshold() -> None:
    shown = decode(dicom_film(WindowCenter=2000, WindowWidth=1))  # the standard: x <= c - 0.5 is black
    assert np.array_equal(shown, np.where(SMOOTH > 1999.5, 255, 0))
    with pytest.raises(BadFilm, match=r"WindowWidth 0\.5, expected at least 1"):
        decode(dicom_film(WindowCenter=2000, WindowWidth=0.5))


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(BadFilm, match="VOILUTFunction CUBIC, expected LINEAR"):
        decode(dicom_film(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="CUBIC"))


def test_table_goes_before_window() -> None:
    film = dicom_film(VOILUTSequence=[table([255 - value // 16 for value in range(4096)], bits=8)])
    film.WindowCenter, film.WindowWidth = 1, 2
    assert np.array_equal(decode(film), 255 - SMOOTH // 16)


@pytest.mark.parametrize("declared", [10, 12, 14, 16])
def test_a_table_s_values_are_scaled_from_the_bits_that_hold_them(declared: int) -> None:
    film = dicom_film(VOILUTSequence=[table(list(range(4096)), bits=declared)])
    white = 2**14 - 1 if declared == 14 else 4095  # of 10 they would not fit, and 16 is what a word has
    assert np.array_equal(decode(film), scaled(SMOOTH, 0, white))


@pytest.mark.parametrize("first", [-1500, 300])
def test_a_table_is_for_inputs_from_its_first_on(first: int) -> None:
    levels = np.linspace(0, 4095, 2000).astype(int)
    expected = scaled(levels[np.clip(SIGNED.astype(int) - first, 0, 1999)], 0, 4095)
    for made in (
        table(levels.tolist(), first, 12, signed=first < 0),
        table(levels.tolist(), first & 0xFFFF, 12),  # negative, and written as unsigned
    ):
        assert np.array_equal(decode(dicom_film(SIGNED, VOILUTSequence=[made])), expected)


def test_a_table_of_65536_entries_says_that_it_has_none() -> None:
    falling = list(range(65_535, -1, -1))
    pixels = (SMOOTH * 17).astype(np.uint16)
    shown = decode(dicom_film(pixels, bits=16, VOILUTSequence=[table(falling)]))
    assert np.array_equal(shown, scaled(65_535 - pixels.astype(int), 0, 65_535))


# Presentation.


def test_monochrome1_is_inverted_once() -> None:
    plain = decode(dicom_film()).astype(int)
    for elements in ({}, {"PresentationLUTShape": "INVERSE"}):
        inverted = decode(dicom_film(PhotometricInterpretation="MONOCHROME1", **elements))
        assert np.abs(inverted + plain - 255).max() <= 1
    assert inverted[0, 0] == 255


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_presentation_shape_says_whether_to_invert(photometric: str) -> None:
    plain = decode(dicom_film()).astype(int)
    identity = decode(dicom_film(PhotometricInterpretation=photometric, PresentationLUTShape="IDENTITY"))
    inverse = decode(dicom_film(PhotometricInterpretation=photometric, PresentationLUTShape="INVERSE "))
    assert np.array_equal(identity, plain)
    assert np.abs(inverse + plain - 255).max() <= 1
    with pytest.raises(BadFilm, match="PresentationLUTShape LIN OD, expected"):
        decode(dicom_film(PresentationLUTShape="LIN OD"))


def test_a_presentation_table_is_as_pydicom_applies_it() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    film = dicom_film(
        ramp, PresentationLUTSequence=[table([4095 - (value**2 >> 12) for value in range(4096)], bits=12)]
    )
    expected = scaled(apply_presentation_lut(ramp, film), 0, 4095)
    assert np.abs(decode(film) - expected).max() <= 1


def test_an_enhanced_image_has_its_grey_scale_in_functional_groups() -> None:
    rescaling, interest, shared, own = Dataset(), Dataset(), Dataset(), Dataset()
    rescaling.RescaleSlope, rescaling.RescaleIntercept = -1, 4095
    interest.WindowCenter, interest.WindowWidth = 2000, 1000
    shared.PixelValueTransformationSequence, own.FrameVOILUTSequence = [rescaling], [interest]
    film = dicom_film(4095 - SMOOTH, NumberOfFrames=1)
    film.SharedFunctionalGroupsSequence, film.PerFrameFunctionalGroupsSequence = [shared], [own]
    assert np.array_equal(decode(film), window())


# Padding.


def padded(value: int) -> np.ndarray:
    pixels = SIGNED.copy()
    pixels[:5] = value
    return pixels


@pytest.mark.parametrize("written", [-32_768, 32_768])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_padding_is_black_and_no_part_of_the_range(written: int, syntax: str | None) -> None:
    film = dicom_film(padded(-32_768), bits=16)
    film.add_new("PixelPaddingValue", "US" if written > 0 else "SS", written)
    film.file_meta.TransferSyntaxUID = syntax or film.file_meta.TransferSyntaxUID
    grey = decode(film)
    assert (grey[:5] == 0).all()
    assert np.array_equal(grey[5:], scaled(SIGNED[5:], -2048, 2047))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("ends", [(-32_768, -30_000), (-30_000, -32_768), (-31_000, -31_000)])
def test_a_range_of_padding(photometric: str, ends: tuple[int, int]) -> None:
    film = dicom_film(padded(-31_000), bits=16, PhotometricInterpretation=photometric)
    for name, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), ends, strict=True):
        film.add_new(name, "SS", value)
    film.WindowCenter, film.WindowWidth = 0, 2000
    grey = decode(film)
    assert (grey[:5] == 0).all()
    plain = decode(dicom_film(SIGNED, WindowCenter=0, WindowWidth=2000, PhotometricInterpretation=photometric))
    assert np.array_equal(grey[5:], plain[5:])


def test_padding_of_unsigned_pixels_written_as_signed() -> None:
    pixels = SMOOTH.copy()
    pixels[:5] = 65_535
    film = dicom_film(pixels, bits=16)
    film.add_new("PixelPaddingValue", "SS", -1)
    grey = decode(film)
    assert (grey[:5] == 0).all()
    assert np.array_equal(grey[5:], scaled(SMOOTH[5:], 0, 4095))


def test_padding_that_bytes_cannot_hold_is_none() -> None:
    film = dicom_film(RAMP, bits=8)
    film.add_new("PixelPaddingValue", "US", 63_536)
    assert np.array_equal(decode(film), RAMP)


def test_a_film_of_one_value_or_of_padding_alone_is_a_film() -> None:
    assert decode(dicom_film(np.full((8, 8), 7, np.uint16), bits=16)).max() == 7
    film = dicom_film(np.full((8, 8), 7, np.uint16), bits=16)
    film.add_new("PixelPaddingValue", "US", 7)
    assert decode(film).max() == 0


# Against pydicom, of whose functions apply_voi_lut gives the range of its input.


@given(
    center=st.floats(-500, 4500),
    width=st.floats(1, 5000),
    slope=st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3.0]),
    intercept=st.integers(-2000, 2000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    signed=st.booleans(),
)
def test_windows_are_as_pydicom_applies_them(
    center: float, width: float, slope: float, intercept: int, function: str, signed: bool
) -> None:
    film = dicom_film(SIGNED if signed else SMOOTH, WindowCenter=round(center, 2), WindowWidth=round(width, 2))
    film.VOILUTFunction, film.RescaleSlope, film.RescaleIntercept = function, slope, intercept
    stored = film.pixel_array
    low, high = (np.array([-2048, 2047] if signed else [0, 4095]) * slope + intercept).tolist()
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        shown = apply_voi_lut(apply_modality_lut(stored, film), film)
    assert np.abs(decode(film) - scaled(shown, low, high)).max() <= 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_films_are_as_pydicom_shows_them(real_data: Path) -> None:
    films = sorted((real_data / "dicom").glob("*.dcm"))
    assert len(films) == 5
    for path in films:
        film = pydicom.dcmread(path)
        assert film.PhotometricInterpretation == "MONOCHROME2"
        shown = apply_voi_lut(apply_modality_lut(film.pixel_array, film), film)
        assert np.array_equal(decode_film(path.read_bytes(), path.name), scaled(shown, 0, 2**film.BitsStored - 1))


def test_real_mammograms_are_the_same_in_dicom_and_in_png(real_data: Path) -> None:
    pictures = sorted((real_data / "mammo" / "cbis_ddsm" / "images").glob("*.png"))
    assert len(pictures) == 4
    for path in pictures:
        film = real_data / "dicom" / f"{path.stem}.dcm"
        difference = decode_film(path.read_bytes(), "").astype(int) - decode_film(film.read_bytes(), "")
        assert np.abs(difference).max() <= 1
