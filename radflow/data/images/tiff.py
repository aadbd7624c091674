"""TIFF films of one page: grey, colour or palette of up to 16 bits, as Pillow and libtiff decode them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from .bad_film import BadFilm, check_pixel_count
from .bit_depth import CONTAINER_BITS, scale_to_grey, value_range
from .pillow_films import deep_colour_to_grey, grey_image, is_deep_colour, open_bounded, read_deep_colour

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little and big endian, the second pair of files over 4 GB (BigTIFF)."""

_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
}
_MOST_BITS = 16
_UNSIGNED = 1
_WHITE_IS_ZERO = 0
_MOST_SAMPLES = 4


def decode_tiff(content: bytes) -> Image.Image:
    """Decode a TIFF to an image of mode L, turned as its orientation says; raises `BadFilm`, and what Pillow raises."""
    with open_bounded(TiffImagePlugin.TiffImageFile, content) as image:
        _check_tags(image.tag_v2)
        _check_single(image)
    with open_bounded(TiffImagePlugin.TiffImageFile, content) as image:
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
        if is_deep_colour(image):
            samples = read_deep_colour(TiffImagePlugin.TiffImageFile, content)
            return deep_colour_to_grey(samples, *value_range(samples))
        image.load()
        if not image.mode.startswith("I"):
            return grey_image(image)
        deep = np.asarray(image).astype(np.uint16)
        black, white = value_range(deep, min(bits, CONTAINER_BITS))
        grey = scale_to_grey(deep, black, white)
        return Image.fromarray(255 - grey if inverted else grey)  # Pillow inverts those of 8 bits, and not these


def _check_tags(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Refuse samples and compressions other than those that films have, and tiles larger than a film may be."""
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        expected = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise BadFilm(f"TIFF of compression {compression}, expected {expected}")
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    formats = tags.get(TiffImagePlugin.SAMPLEFORMAT, (_UNSIGNED,))
    if max(bits) > _MOST_BITS or set(formats) != {_UNSIGNED}:
        kind = "unsigned" if set(formats) == {_UNSIGNED} else "signed or floating"
        raise BadFilm(f"TIFF of {max(bits)} {kind} bits a sample, expected up to {_MOST_BITS} unsigned")
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if samples > _MOST_SAMPLES:
        raise BadFilm(f"TIFF of {samples} samples a pixel, expected up to {_MOST_SAMPLES}")
    if TiffImagePlugin.TILEWIDTH in tags:  # a tile is inflated whole, whatever of it the film covers
        check_pixel_count(tags[TiffImagePlugin.TILEWIDTH], tags.get(TiffImagePlugin.TILELENGTH, 0))


def _check_single(image: ImageFile.ImageFile) -> None:
    try:
        image.seek(1)
    except EOFError:
        return
    raise BadFilm("TIFF of several pages, expected one; save the film's page alone")
