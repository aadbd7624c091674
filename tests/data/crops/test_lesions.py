from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.data.crops.lesions import (
    MIN_BREAST_SHARE,
    CropConfig,
    cut_crop,
    disc_mask,
    lesion_window,
    normal_windows,
    pad_to,
    random_of,
)
from radflow.data.images.breast import breast_mask
from radflow.errors import UserError

SIZE = 40
seeds = st.integers(0, 10_000)


@st.composite
def masks(draw: st.DrawFn, largest: int) -> np.ndarray:
    """A film's shape of at least SIZE, with an irregular lesion of up to `largest` pixels in height and width."""
    height, width = (draw(st.integers(SIZE, 120)) for _ in range(2))
    random = np.random.default_rng(draw(seeds))
    extents = [draw(st.integers(1, min(largest, side))) for side in (height, width)]
    top, left = (draw(st.integers(0, side - extent)) for side, extent in zip((height, width), extents, strict=True))
    mask = np.zeros((height, width), bool)
    mask[top : top + extents[0], left : left + extents[1]] = random.random(extents) < 0.3
    mask[top, left] = True
    return mask


def inside(mask: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    top, left = window
    cut = mask[top : top + SIZE, left : left + SIZE]
    assert cut.shape == (SIZE, SIZE)
    return cut


@given(mask=masks(largest=SIZE), padding=st.floats(0, 1), seed=seeds)
def test_a_crop_holds_all_of_a_lesion_that_fits(mask: np.ndarray, padding: float, seed: int) -> None:
    window = lesion_window(mask, SIZE, padding, np.random.default_rng(seed))
    assert inside(mask, window).sum() == mask.sum()


@given(mask=masks(largest=120), padding=st.floats(0, 1), seed=seeds)
def test_a_crop_of_any_lesion_shows_some_of_it(mask: np.ndarray, padding: float, seed: int) -> None:
    assert inside(mask, lesion_window(mask, SIZE, padding, np.random.default_rng(seed))).any()


def test_crops_of_a_large_lesion_together_show_all_of_it() -> None:
    mask = np.zeros((150, 150), bool)
    mask[20:130, 10:140] = True
    shown = np.zeros_like(mask)
    for seed in range(100):
        top, left = lesion_window(mask, SIZE, 0.0, np.random.default_rng(seed))
        shown[top : top + SIZE, left : left + SIZE] = True
    assert (shown == mask).all()


def test_padding_keeps_context_around_a_lesion_inside_the_film() -> None:
    mask = np.zeros((200, 200), bool)
    mask[100:110, 60:80] = True
    corners = np.array([lesion_window(mask, SIZE, 0.25, np.random.default_rng(seed)) for seed in range(400)])
    # 2 or 3 pixels above and below (a quarter of 10, rounded to even), 5 on either side
    assert corners.min(axis=0).tolist() == [112 - SIZE, 85 - SIZE]
    assert corners.max(axis=0).tolist() == [98, 55]


def test_a_crop_never_leaves_the_film() -> None:
    corner = disc_mask((100, 90), 99, 0, 6)
    tops, lefts = zip(
        *(lesion_window(corner, SIZE, 0.5, np.random.default_rng(seed)) for seed in range(50)), strict=True
    )
    assert set(tops) == {60}
    assert set(lefts) == {0}


@given(mask=masks(largest=60), reach=st.floats(0.2, 1.2), seed=seeds)
def test_normal_tissue_has_no_lesion_and_is_not_mostly_background(mask: np.ndarray, reach: float, seed: int) -> None:
    width = mask.shape[1]
    film = np.broadcast_to(np.where(np.arange(width) < reach * width, 120, 3), mask.shape).astype(np.uint8)
    windows = normal_windows(breast_mask(film), mask, SIZE, 5, np.random.default_rng(seed))
    assert len(set(windows)) == len(windows) <= 5
    for window in windows:
        assert not inside(mask, window).any()
        # the breast's edge is found to within a cell of 8 pixels
        assert (inside(film, window) > 20).mean() >= MIN_BREAST_SHARE - 8 / SIZE


@given(mask=masks(largest=30), seed=seeds)
def test_normal_tissue_is_found_where_there_is_any(mask: np.ndarray, seed: int) -> None:
    suitable = {
        (top, left)
        for top in range(mask.shape[0] - SIZE + 1)
        for left in range(mask.shape[1] - SIZE + 1)
        if not mask[top : top + SIZE, left : left + SIZE].any()
    }
    windows = normal_windows(np.ones_like(mask), mask, SIZE, 100_000, np.random.default_rng(seed))
    assert set(windows) == suitable


def test_the_breast_is_the_largest_bright_region_and_labels_are_background() -> None:
    film = np.full((160, 120), 4, np.uint8)
    film[20:140, :70] = 130
    film[:24, 96:] = 255  # a label
    expected = np.zeros(film.shape, bool)
    expected[16:144, :72] = True  # in cells of 8 pixels
    assert np.array_equal(breast_mask(film), expected)
    assert not breast_mask(np.full((50, 50), 10, np.uint8)).any()


@pytest.mark.parametrize("shape", [(30, 100), (100, 31), (7, 9), (40, 40)])
def test_a_film_smaller_than_a_crop_is_centred_on_black(shape: tuple[int, int]) -> None:
    film = np.full(shape, 200, np.uint8)
    padded = pad_to(film, SIZE)
    assert padded.shape == tuple(max(extent, SIZE) for extent in shape)
    rows, columns = (np.flatnonzero((padded == 200).any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == shape
    assert abs(rows[0] - (padded.shape[0] - 1 - rows[-1])) <= 1
    assert (padded == 200).sum() == film.size


def test_crops_are_turned_and_flipped_in_all_eight_ways_and_otherwise_untouched() -> None:
    film = np.arange(100 * 100).reshape(100, 100).astype(np.uint8)
    window = film[10 : 10 + SIZE, 20 : 20 + SIZE]
    ways = {turned.tobytes() for k in range(4) for turned in (np.rot90(window, k), np.rot90(window, k)[:, ::-1])}
    seen = {cut_crop(film, (10, 20), SIZE, SIZE, np.random.default_rng(seed)).tobytes() for seed in range(100)}
    assert len(ways) == 8
    assert seen == ways


def test_crops_are_resized() -> None:
    crop = cut_crop(np.full((100, 100), 77, np.uint8), (0, 0), 80, 33, np.random.default_rng(0))
    assert crop.shape == (33, 33)
    assert (crop == 77).all()


def test_generators_go_by_seed_and_name() -> None:
    draws = [random_of(seed, name).integers(2**62) for seed, name in ((0, "a"), (0, "b"), (1, "a"), (0, "a"))]
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


def test_disc() -> None:
    assert np.argwhere(disc_mask((9, 9), 3, 4, 1)).tolist() == [[2, 4], [3, 3], [3, 4], [3, 5], [4, 4]]
    assert disc_mask((9, 9), 3, 4, 0).sum() == 1


@pytest.mark.parametrize(
    "setting",
    [
        {"crop_size": 31},
        {"crop_size": 5000},
        {"crop_padding": -0.1},
        {"crop_padding": float("nan")},
        {"crops_per_lesion": 0},
        {"negatives_per_film": -1},
    ],
)
def test_settings_out_of_range_are_one_line(setting: dict[str, float]) -> None:
    (name,) = setting
    with pytest.raises(UserError, match=f"{name}=.* is out of range: expected"):
        CropConfig(**setting)
