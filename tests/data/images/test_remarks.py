from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radflow.data.images.film import decode_film
from radflow.data.images.remarks import remark_on

GENERATOR = np.random.default_rng(0)


def film(height: int = 64, width: int = 64) -> np.ndarray:
    """Grey noise on a ramp, with the contrast of a radiograph."""
    ramp = np.linspace(20, 220, height)[:, np.newaxis]
    return np.clip(ramp + GENERATOR.normal(0, 10, (height, width)), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def photograph() -> np.ndarray:
    """RGB [64, 64, 3], skin on a blue ground."""
    picture = np.stack([film(), film() // 2, film() // 4], axis=-1)
    picture[:20] = (20, 60, 180)
    return picture


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((64, 64), np.uint8), "no contrast: nearly all of it lies within 1 of 256 grey levels"),
        (np.full((64, 64), 130, np.uint8), "no contrast"),
        (np.where(GENERATOR.random((64, 64)) < 0.005, 255, 7).astype(np.uint8), "no contrast"),  # dust on black
        (film(64, 200), "200x64 pixels"),
        (film(200, 128), "128x200 pixels"),
    ],
)
def test_what_is_no_frontal_film_is_remarked_upon(pixels: np.ndarray, says: str) -> None:
    assert remark_on(pixels, encoded(pixels)).text.startswith(says)
    assert remark_on(pixels).text.startswith(says)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_colours_are_remarked_upon_and_grey_saved_as_colour_is_not(kind: str) -> None:
    content = encoded(photograph(), kind)
    assert remark_on(decode_film(content, ""), content).text == "not grey: a colour picture"
    content = encoded(np.stack([film()] * 3, axis=-1), kind)
    assert remark_on(decode_film(content, ""), content).text == ""


def test_frontal_films_of_common_detectors_are_not(real_data: Path) -> None:
    for height, width in ((1024, 1024), (2544, 3056), (3056, 2544), (2500, 2048)):
        assert remark_on(film(height, width)) == ("", False)
    for path in sorted((real_data / "nih" / "images").glob("*.png"))[:60]:
        content = path.read_bytes()
        assert remark_on(decode_film(content, path.name), content) == ("", False)
