"""Class activation maps drawn over the films that they explain."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from radflow.data.images.breast import cut_breast
from radflow.data.images.film import Fit

LONGEST_SIDE = 1024
"""Pixels of a picture; larger films are shrunk to it."""

_STRONGEST_COLOUR = 0.6
"""How much of the film is covered where its evidence is strongest; nothing is where there is none."""

_CAPTION_HEIGHT = 24


def draw_heatmap(film: NDArray[np.uint8], evidence: np.ndarray, caption: str, fit: Fit = "squash") -> Image.Image:
    """Draw a film with the evidence for one finding in colour, and a caption below.

    `film` is grey [H, W]; `evidence` [h, w] is its class activation map, which covers the square that the film was made
    by `fit`. Of a mammogram that was reduced to its breast only that is drawn. Only evidence for the finding is shown,
    from none (the film as it is) to the strongest of this film (yellow).
    """
    grey = Image.fromarray(cut_breast(film) if fit == "breast" else film)
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture = Image.new("RGB", (grey.width, grey.height + _CAPTION_HEIGHT))
    picture.paste(tint(grey, evidence, fit))
    font = ImageFont.load_default(_CAPTION_HEIGHT // 2)
    ImageDraw.Draw(picture).text((4, grey.height + _CAPTION_HEIGHT // 4), caption, fill="white", font=font)
    return picture


def tint(grey: Image.Image, evidence: np.ndarray, fit: Fit = "squash") -> Image.Image:
    """A grey picture with the evidence for one finding in colour; see `draw_heatmap`.

    A map of a single place, as small films have, says nothing of where, and colours nothing.
    """
    if evidence.size == 1:
        return grey.convert("RGB")
    strength = _strength(evidence, grey.size, fit)
    colours = (mpl.colormaps["inferno"](strength)[..., :3] * 255).astype(np.uint8)
    cover = Image.fromarray(np.rint(strength * _STRONGEST_COLOUR * 255).astype(np.uint8))
    picture = grey.convert("RGB")
    picture.paste(Image.fromarray(colours), (0, 0), cover)
    return picture


def _strength(evidence: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """Evidence for the finding as a fraction of the strongest, [height, width] of the picture, 0 to 1."""
    positive = np.maximum(np.asarray(evidence, np.float32), 0)
    fraction = Image.fromarray(positive / max(float(positive.max()), 1e-12))
    film = _place_of_film(size, fraction.size, fit)
    return np.clip(np.asarray(fraction.resize(size, Image.Resampling.BICUBIC, box=film)), 0, 1)


def _place_of_film(film: tuple[int, int], square: tuple[int, int], fit: Fit) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a film of this width and height in the square that was made of it."""
    if fit == "squash":
        return 0.0, 0.0, *square
    width, height = (side * extent / max(film) for side, extent in zip(square, film, strict=True))
    left = 0.0 if fit == "breast" else (square[0] - width) / 2
    top = (square[1] - height) / 2
    return left, top, left + width, top + height
