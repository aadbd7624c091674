"""How films that are not square become so, against Pillow's own padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from png_films import deep_png

from radflow.data.images.breast import breast_mask, cut_breast
from radflow.data.images.film import read_film, resize_film

LABEL = 255


def made_breast(height: int = 400, width: int = 300) -> np.ndarray:
    """A film with a breast at its left edge and a label in its right upper corner."""
    rows, columns = np.ogrid[:height, :width]
    breast = ((rows - 0.55 * height) / (0.3 * height)) ** 2 + (columns / (0.6 * width)) ** 2 < 1
    film = np.where(breast, 150 - columns // 4, 3).astype(np.uint8)
    film[8:40, width - 60 : width - 8] = LABEL
    return film


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (333, 200), (100, 100)])
def test_padding_is_that_of_pillow(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    film = np.rint(130 + 60 * np.sin(rows / 20) + 50 * np.cos(columns / 15)).astype(np.uint8)
    expected = ImageOps.pad(Image.fromarray(film), (64, 64), Image.Resampling.LANCZOS, color=0)
    assert np.abs(resize_film(film, 64, "pad").astype(int) - np.asarray(expected)).max() <= 2
    content = deep_png(film.astype(np.uint16) * 257)
    assert np.abs(read_film(content, "a.png", 64, "pad").astype(int) - np.asarray(expected)).max() <= 2


@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 80))
def test_a_padded_film_keeps_its_proportions_and_lies_in_the_middle(height: int, width: int, size: int) -> None:
    padded = resize_film(np.full((height, width), 200, np.uint8), size, "pad")
    rows, columns = ((padded > 0).any(axis=axis) for axis in (1, 0))
    longest = max(height, width)
    assert (rows.sum(), columns.sum()) == (
        max(1, round(height * size / longest)),
        max(1, round(width * size / longest)),
    )
    for inside in (rows, columns):
        before, after = int(inside.argmax()), int(inside[::-1].argmax())
        assert abs(before - after) <= 1
    assert (padded[np.ix_(rows, columns)] == 200).all()


def test_square_films_are_padded_with_nothing() -> None:
    film = np.random.default_rng(0).integers(0, 256, (120, 120)).astype(np.uint8)
    np.testing.assert_array_equal(resize_film(film, 64, "pad"), resize_film(film, 64, "squash"))


def test_the_breast_is_cut_out_without_the_label() -> None:
    film = made_breast()
    cut = cut_breast(film)
    rows, columns = np.nonzero((film > 20) & (film < LABEL))
    assert np.abs(np.array(cut.shape) - (np.ptp(rows) + 1, np.ptp(columns) + 1)).max() <= 16  # cells of 8 pixels
    assert cut.max() < LABEL


def test_the_chest_wall_is_at_the_left_whichever_breast_it_is() -> None:
    film = made_breast(width=304)  # whole cells of 8 pixels
    np.testing.assert_array_equal(cut_breast(film[:, ::-1]), cut_breast(film))
    square = resize_film(film[:, ::-1], 64, "breast")
    assert (square[32, :4] > 100).all()
    assert (square[:, -4:] == 0).all()
    heights = (square > 20).sum(axis=0)
    assert heights[:8].min() > heights[30:].max()


def test_a_film_without_a_breast_stays_whole() -> None:
    film = np.full((60, 90), 4, np.uint8)
    assert cut_breast(film).shape == film.shape
    assert resize_film(film, 32, "breast").shape == (32, 32)


def test_real_breasts_are_cut_without_their_labels(real_data: Path) -> None:
    paths = sorted((real_data / "mammo" / "mias").rglob("mdb*.png"))[:40]
    assert paths
    for path in paths:
        film = np.asarray(Image.open(path).convert("L"))
        cut = cut_breast(film)
        assert 0.9 <= (cut >= 20).sum() / breast_mask(film).sum() <= 1.3, path.name
        heights = breast_mask(cut).sum(axis=0)
        fifth = len(heights) // 5
        assert heights[:fifth].sum() > heights[-fifth:].sum(), path.name
