"""What no film may be: the exception for bytes that are refused, and the limits of size."""

from __future__ import annotations

MAX_FILM_PIXELS = 50_000_000
"""Largest film that is decoded. The largest digital mammograms have about 20 megapixels."""

_LONGEST_REASON = 200


class BadFilm(ValueError):  # noqa: N818  (a film is bad; the program is not in error)
    """These bytes are no film that radflow can use; the text is the reason on one line, without the film's name."""

    def __init__(self, reason: str) -> None:
        # A reason may quote the file or a decoder's essay, and goes to terminals and tables.
        first_line = (reason.splitlines() or [""])[0][:_LONGEST_REASON]
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in first_line))


def check_pixel_count(width: int, height: int) -> None:
    """Refuse a film whose header announces more than `MAX_FILM_PIXELS` pixels, or none; raises `BadFilm`."""
    if width < 1 or height < 1:
        raise BadFilm(f"no pixels: the header says {width}x{height}")
    if width * height > MAX_FILM_PIXELS:
        given, limit = width * height / 1e6, MAX_FILM_PIXELS / 1e6
        raise BadFilm(f"too large: {width}x{height} is {given:.0f} megapixels, the limit is {limit:.0f}")
