"""Contact sheets: some films of each finding side by side, small, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from radflow.data.dataset.reading import Dataset, Split
from radflow.data.dataset.shards import FilmTable
from radflow.data.images.film import resize_film

COLUMNS, ROWS = 5, 4
NO_FINDING = "No Finding"
"""Heading of the films that show none of several findings."""
_FILM, _GAP, _CAPTION, _HEADING = 190, 8, 36, 40
"""Pixels: side of a film, space between films, height of a caption and of the heading."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_INK, _GREY, _PAPER = 0, 89, 255


@dataclass(frozen=True)
class SheetFilm:
    """One film of a sheet with what stands under it."""

    pixels: NDArray[np.uint8]
    """uint8 [H, W], or [H, W, 3] in colours, then a square"""
    image_id: str
    facts: str
    """Split, view and other findings."""


def contact_sheets(dataset: Dataset, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield a name and a sheet, 1000 pixels wide, for each finding that a film has, and for films without any.

    A sheet shows up to 20 films, drawn by the seed from all splits together; the same seed draws the same films.
    """
    splits = [dataset.split(name) for name, counts in dataset.manifest.splits.items() if counts.rows]
    table = FilmTable.concatenate([split.table for split in splits])
    names = [*(finding.replace("_", " ") for finding in dataset.findings), _name_of_none(dataset.findings)]
    shown = np.column_stack([table.labels, table.shows_none])
    for number, (name, has_finding) in enumerate(zip(names, shown.T, strict=True)):
        candidates = np.flatnonzero(has_finding)
        if len(candidates):
            drawn = np.random.default_rng([seed, number]).permutation(candidates)[: COLUMNS * ROWS]
            films = [_film_at(splits, dataset.findings, place, name) for place in np.sort(drawn).tolist()]
            heading = f"{name}: {len(films)} of {len(candidates):,} {dataset.manifest.unit} in {dataset.path.name}"
            yield name, draw_sheet(heading, films)


def draw_sheet(heading: str, films: list[SheetFilm]) -> Image.Image:
    """Draw films in rows with their captions; what is too long for a caption is cut short."""
    rows = -(-len(films) // COLUMNS)
    cell_width, cell_height = _FILM + _GAP, _FILM + _CAPTION + _GAP
    mode = "RGB" if any(film.pixels.ndim == 3 for film in films) else "L"
    paper = _PAPER if mode == "L" else (_PAPER,) * 3
    sheet = Image.new(mode, (COLUMNS * cell_width + _GAP, _HEADING + rows * cell_height), paper)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_GAP, 9), heading, ImageFont.load_default(18), _INK, sheet.width - 2 * _GAP)
    caption = ImageFont.load_default(12)
    for number, film in enumerate(films):
        left = _GAP + number % COLUMNS * cell_width
        top = _HEADING + number // COLUMNS * cell_height
        sheet.paste(_picture(film.pixels), (left, top))
        _write(draw, (left, top + _FILM + 3), film.image_id, caption, _INK, _FILM)
        _write(draw, (left, top + _FILM + 18), film.facts, caption, _GREY, _FILM)
    return sheet


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.ndim == 2:
        return Image.fromarray(resize_film(pixels, _FILM))
    return Image.fromarray(pixels).resize((_FILM, _FILM), Image.Resampling.LANCZOS)


def _film_at(splits: list[Split], findings: tuple[str, ...], place: int, sheet: str) -> SheetFilm:
    """Find a film by its place in all splits, one after the other; its caption leaves out what the sheet is of."""
    for split in splits:
        if place < len(split):
            break
        place -= len(split)
    present = [name.replace("_", " ") for name, is_there in zip(findings, split.labels[place], strict=True) if is_there]
    others = ", ".join(name for name in present if name != sheet)
    facts = "  ".join(filter(None, [split.name, str(split.views[place]), f"+ {others}" if others else ""]))
    return SheetFilm(split.gather(np.array([place]))[0], str(split.image_ids[place]), facts)


def _name_of_none(findings: tuple[str, ...]) -> str:
    """Name what a film without any finding shows; of crops with one label it is said more closely."""
    return NO_FINDING if len(findings) > 1 else f"No {findings[0].replace('_', ' ')}"


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Font, ink: int, width: int) -> None:
    while draw.textlength(text, font) > width:
        text = text.removesuffix("...")[:-1] + "..."
    draw.text(place, text, ink if draw.mode == "L" else (ink,) * 3, font)
