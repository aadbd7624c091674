from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.data.images.bit_depth import every_value, scale_to_grey, value_range


def film_of(bits: int, seed: int = 0, size: int = 64) -> np.ndarray:
    """uint16 of a depth, with a hundredth of its pixels in the brighter half of it and the rest below."""
    random = np.random.default_rng(seed)
    film = random.integers(0, 1 << (bits - 1), (size, size), np.uint16)
    film.flat[: film.size // 100] = random.integers(1 << (bits - 1), 1 << bits, film.size // 100)
    return film


@given(st.integers(8, 16), st.integers(0, 3))
def test_an_undeclared_depth_is_found_whatever_its_bits(bits: int, seed: int) -> None:
    assert value_range(film_of(bits, seed)) == (0, 2**bits - 1)


@given(st.integers(8, 15), st.lists(st.integers(0, 65_535), min_size=1, max_size=4))
def test_hot_pixels_do_not_change_the_rest_of_the_film(bits: int, hot: list[int]) -> None:
    film = film_of(bits)
    grey = scale_to_grey(film, *value_range(film))
    film[-1, : len(hot)] = hot
    np.testing.assert_array_equal(scale_to_grey(film, *value_range(film))[:-1], grey[:-1])


@given(st.integers(9, 15), st.integers(0, 40))
def test_a_declared_depth_holds_however_dark_the_film_is(bits: int, brightest: int) -> None:
    film = np.full((4, 4), brightest, np.uint16)
    assert value_range(film, bits) == (0, 2**bits - 1)
    assert scale_to_grey(film, *value_range(film, bits))[0, 0] == round(brightest * 255 / (2**bits - 1))


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_values_in_the_high_bits_are_as_bright_as_in_the_low_ones(shift: int) -> None:
    low = film_of(12)
    high = low << shift
    greys = [scale_to_grey(film, *value_range(film)).astype(int) for film in (low, high)]
    assert np.abs(greys[0] - greys[1]).max() <= 1


def test_an_empty_or_a_black_film_has_a_range() -> None:
    assert value_range(np.zeros((0, 4), np.uint16)) == (0, 65_535)
    assert value_range(np.zeros((4, 4), np.uint16)) == (0, 255)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, (0, 4095)),  # none is negative
        (-2048, (-2048, 2047)),  # the signed range of 12 bits
        (-1000, (-996, 3099)),  # 12 bits from the darkest thousandth on, which are 4 of its 4096 values
    ],
)
def test_signed_values_of_unknown_depth(offset: int, expected: tuple[int, int]) -> None:
    ramp = np.repeat(np.arange(4096), 4).reshape(128, 128)
    assert value_range((ramp + offset).astype(np.int16)) == expected


def test_signed_values_of_declared_depth() -> None:
    assert value_range(np.zeros((4, 4), np.int16), 12) == (-2048, 2047)
    assert value_range(np.zeros((4, 4), np.int8), 8) == (-128, 127)


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">u2", "<i2", ">i2"])
def test_scaling_is_that_of_the_definition(kind: str) -> None:
    values = every_value(np.dtype(kind)).reshape(16, -1).astype(kind)
    black, white = int(values.min()) // 2, int(values.max()) // 3
    shown = np.clip((values.astype(float) - black) / (white - black), 0, 1) * 255
    np.testing.assert_array_equal(scale_to_grey(values, black, white), np.rint(shown))
