"""Figures as a user sees them: their pixels and their words."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def draw(figure: Figure) -> np.ndarray:
    """The pixels of the PNG that a user opens, checked to be 1000 wide and not blank."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 1000
    assert 150 < pixels.shape[0] < 1000
    assert pixels.std() > 5
    return pixels


def texts_of(figure: Figure) -> str:
    """Every visible word of the figure."""
    words = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(words)
