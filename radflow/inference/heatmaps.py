"""Class activation maps drawn over the films that they explain."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LONGEST_SIDE = 1024
"""Pixels of a picture; larger films are shrunk to it."""

_STRONGEST_COLOUR = 0.6
"""How much of the film is covered where its evidence is strongest; nothing is where there is none."""

_CAPTION_HEIGHT = 24


def draw_heatmap(film: NDArray[np.uint8], evidence: np.ndarray, caption: str) -> Image.Image:
    """Draw a film with the evidence for one finding in colour, and a caption below.

    `film` is grey [H, W]; `evidence` [h, w] is its class activation map, which covers the whole film. Only evidence for
    the finding is shown, from none (the film as it is) to the strongest of this film (yellow).
    """
    grey = Image.fromarray(film)
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    strength = _strength(evidence, grey.size)
    colours = (mpl.colormaps["inferno"](strength)[..., :3] * 255).astype(np.uint8)
    cover = Image.fromarray(np.rint(strength * _STRONGEST_COLOUR * 255).astype(np.uint8))
    picture = Image.new("RGB", (grey.width, grey.height + _CAPTION_HEIGHT))
    picture.paste(grey.convert("RGB"))
    picture.paste(Image.fromarray(colours), (0, 0), cover)
    font = ImageFont.load_default(_CAPTION_HEIGHT // 2)
    ImageDraw.Draw(picture).text((4, grey.height + _CAPTION_HEIGHT // 4), caption, fill="white", font=font)
    return picture


def _strength(evidence: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Evidence for the finding as a fraction of the strongest, [height, width] of the picture, 0 to 1."""
    positive = np.maximum(np.asarray(evidence, np.float32), 0)
    fraction = positive / max(float(positive.max()), 1e-12)
    return np.clip(np.asarray(Image.fromarray(fraction).resize(size, Image.Resampling.BICUBIC)), 0, 1)
