"""What PNG, JPEG and TIFF have in common once Pillow has opened them: orientation, colour, samples of 16 bits."""

from __future__ import annotations

import io
import sys
import warnings
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from .bad_film import check_pixel_count
from .bit_depth import scale_to_grey

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a film is brought upright, by its EXIF orientation (Exif 2.3, section 4.6.4, tag 0x0112)."""

_OTHER_BYTES = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}
"""Endings of Pillow's raw modes: the byte order in which what is taken for the upper byte is the lower."""


Opened = TypeVar("Opened", bound=ImageFile.ImageFile)


def open_bounded(plugin: type[Opened], content: bytes) -> Opened:
    """Open bytes by the plugin for their format, rather than by Image.open, and check the number of pixels."""
    image = plugin(io.BytesIO(content))
    check_pixel_count(*image.size)
    return image


def upright(grey: Image.Image, loaded: Image.Image) -> Image.Image:
    """Turn a film as the EXIF data of the loaded image that it was made of say; damaged EXIF data are passed over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of EXIF data that are cut short
            turn = _TURNS.get(loaded.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  (what Pillow raises for EXIF data that break the standard is not documented)
        return grey
    return grey if turn is None else grey.transpose(turn)


def grey_image(image: Image.Image) -> Image.Image:
    """Convert a loaded image of 8-bit samples to mode L: luminance by ITU-R 601, without regard to alpha."""
    if image.mode == "L":
        return image
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("P", "PA", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    return image.convert("L")


def is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Whether an opened image has several samples a pixel, of 16 bits each: Pillow would drop the lower 8."""
    return len(image.getbands()) > 1 and ";16" in _raw_mode(image)


def read_deep_colour(plugin: type[ImageFile.ImageFile], content: bytes) -> NDArray[np.uint16]:
    """Decode colour or grey samples of 16 bits, without alpha: uint16 [H, W, 1 or 3].

    Pillow gives the upper bytes. It gives the lower ones, too, where it is told the other byte order.
    """
    with open_bounded(plugin, content) as image:
        raw_mode = _raw_mode(image)
        if raw_mode.startswith("LA;16"):  # its 4 bytes a pixel fit in Pillow's own
            upper, lower, _ = np.split(_read_as(image, "RGBA"), 3, axis=-1)
            return upper.astype(np.uint16) * 256 + lower
        samples = _read_as(image, raw_mode).astype(np.uint16)
    with open_bounded(plugin, content) as image:
        samples <<= 8
        samples |= _read_as(image, raw_mode[:-4] + _OTHER_BYTES[raw_mode[-4:]])
    return samples


def deep_colour_to_grey(samples: NDArray[np.uint16], black: int, white: int) -> Image.Image:
    """Scale uint16 [H, W, 1 or 3] to 8 bits and reduce colour to luminance."""
    grey = scale_to_grey(samples, black, white)
    return Image.fromarray(grey[..., 0]) if grey.shape[-1] == 1 else Image.fromarray(grey).convert("L")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name of how samples lie in the file, which is the first argument of most of its decoders."""
    arguments = image.tile[0].args if image.tile else None
    return arguments if isinstance(arguments, str) else str((arguments or [""])[0])


def _read_as(image: ImageFile.ImageFile, raw_mode: str) -> NDArray[np.uint8]:
    """Load an opened image with another order of the bytes in the file; colours or bytes, without a fourth."""
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return np.asarray(image)[..., :3]
