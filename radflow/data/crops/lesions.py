"""Square crops of mammograms around lesions and of normal tissue: the recipe of the paper's section IV.

Functions on arrays: films are grey uint8 [H, W], masks bool [H, W] of the same size, a window is the (top, left) of a
square of `crop_size` pixels that lies in the film. Whatever is drawn at random comes from a generator that the caller
seeds by the name of the crop, so that the same seed gives the same crops in any order and on any number of processes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from radflow.data.images.film import resize_film
from radflow.errors import UserError

Window = tuple[int, int]
"""Top row and left column of a crop."""

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

MIN_BREAST_SHARE = 0.5
"""Least share of breast in a crop of normal tissue: one with less is mostly background."""

_POSITIONS_PER_SIDE = 64
"""How many positions of a normal window are tried along its own length."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut from mammograms; the defaults are the paper's, where it gives them."""

    crop_size: int = 598
    """Side of a crop of a mammogram in pixels of the film (598 are 30 mm of CBIS-DDSM, and 120 mm of mini-MIAS)."""
    crop_padding: float = 0.1
    """Context of mammograms on each side of a lesion that a crop takes in, as a share of its extent, 0 to 1."""
    crops_per_lesion: int = 3
    """Random crops of each lesion of a mammogram."""
    negatives_per_film: int = 3
    """Random crops of normal tissue of each mammogram, where it has room for them."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 32 <= self.crop_size <= 4096:
            raise UserError(f"crop_size={self.crop_size} is out of range: expected 32 to 4096 pixels")
        if not 0 <= self.crop_padding <= 1:
            raise UserError(f"crop_padding={self.crop_padding} is out of range: expected 0 to 1")
        if not 1 <= self.crops_per_lesion <= 100:
            raise UserError(f"crops_per_lesion={self.crops_per_lesion} is out of range: expected 1 to 100")
        if not 0 <= self.negatives_per_film <= 100:
            raise UserError(f"negatives_per_film={self.negatives_per_film} is out of range: expected 0 to 100")


def random_of(seed: int, name: str) -> np.random.Generator:
    """Return the generator of what is called `name`, the same on every machine and whatever else has been drawn."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def disc_mask(shape: tuple[int, int], row: float, column: float, radius: float) -> NDArray[np.bool_]:
    """Mask of the pixels whose centres are within `radius` of a centre, at least the pixel that holds the centre."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    disc[int(row), int(column)] = True
    return disc


def pad_to(pixels: NDArray[Pixel], size: int) -> NDArray[Pixel]:
    """Extend a film or mask that is smaller than `size` in a direction, on both sides, with black (false).

    Black is what a mammogram's background is, so the scale stays and no tissue is made up.
    """
    missing = [max(0, size - extent) for extent in pixels.shape]
    if not any(missing):
        return pixels
    return np.pad(pixels, [(short // 2, short - short // 2) for short in missing])


def lesion_window(mask: NDArray[np.bool_], crop_size: int, padding: float, random: np.random.Generator) -> Window:
    """Draw a window around a lesion, given as a mask with at least one true pixel.

    The region of interest is the lesion's bounding box with `padding` times its extent on each side; the padding
    gives way at the film's edge, and where the lesion would not fit into the window else. In a direction in which the
    region fits, the window is uniform among those that hold all of it. In one in which it does not, the window lies
    within the region, centred as nearly as it can be on a pixel of the lesion drawn at random: so every window shows
    the lesion, and the windows together show all of it.
    """
    # Not ndimage.find_objects, which takes 8 bytes a pixel of the film.
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    lesion_pixels = np.argwhere(mask[box])
    centre = lesion_pixels[random.integers(len(lesion_pixels))]
    starts = []
    for extent, span, offset in zip(mask.shape, box, centre, strict=True):
        first, last = _padded(span, extent, crop_size, padding)
        if last - first <= crop_size:
            start = random.integers(max(0, last - crop_size), min(first, extent - crop_size), endpoint=True)
        else:
            start = np.clip(span.start + offset - crop_size // 2, first, last - crop_size)
        starts.append(int(start))
    return starts[0], starts[1]


def normal_windows(
    breast: NDArray[np.bool_], lesions: NDArray[np.bool_], crop_size: int, count: int, random: np.random.Generator
) -> list[Window]:
    """Draw up to `count` different windows of normal tissue, fewer where a film has not so many.

    No window holds a pixel of `lesions`, and each is breast for at least `MIN_BREAST_SHARE`. All windows of a regular
    grid are judged, so that a film with little room is not given up after bad luck.
    """
    step = max(1, crop_size // _POSITIONS_PER_SIDE)
    tops, lefts = (np.arange(0, extent - crop_size + 1, step) for extent in breast.shape)
    suitable = _count_in_windows(lesions, crop_size, tops, lefts) == 0
    suitable &= _count_in_windows(breast, crop_size, tops, lefts) >= MIN_BREAST_SHARE * crop_size**2
    places = np.argwhere(suitable)
    drawn = random.permutation(len(places))[:count]
    return [(int(tops[row]), int(lefts[column])) for row, column in places[drawn]]


def cut_crop(
    film: NDArray[np.uint8], window: Window, crop_size: int, image_size: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut a window out of a film, turn and flip it at random, and resize it to uint8 [image_size, image_size].

    Turns are by quarters: pixels stay exact, and no corner is left without film. Crops of normal tissue are turned
    like those of lesions, because a network would else learn to tell the two by how the breast lies in them.
    """
    top, left = window
    crop = np.rot90(film[top : top + crop_size, left : left + crop_size], int(random.integers(4)))
    if random.integers(2):
        crop = crop[:, ::-1]
    return resize_film(np.ascontiguousarray(crop), image_size)


def _padded(span: slice, extent: int, crop_size: int, padding: float) -> tuple[int, int]:
    """First and last (exclusive) pixel of the region of interest in one direction of the film."""
    length = span.stop - span.start
    margin = round(padding * length)
    if length <= crop_size:
        margin = min(margin, (crop_size - length) // 2)
    return max(0, span.start - margin), min(extent, span.stop + margin)


def _count_in_windows(
    mask: NDArray[np.bool_], crop_size: int, tops: NDArray[np.integer], lefts: NDArray[np.integer]
) -> NDArray[np.uint32]:
    """Count the true pixels of the windows at every pair of `tops` and `lefts`: [tops, lefts], by running sums.

    The sums down the columns may wrap around, which their differences do not: those are below 2**16, as are crops.
    """
    height, width = mask.shape
    down = np.zeros((height + 1, width), np.uint16)
    np.cumsum(mask, axis=0, dtype=np.uint16, out=down[1:])
    strips = down[tops + crop_size] - down[tops]
    across = np.zeros((len(tops), width + 1), np.uint32)
    np.cumsum(strips, axis=1, dtype=np.uint32, out=across[:, 1:])
    return across[:, lefts + crop_size] - across[:, lefts]
