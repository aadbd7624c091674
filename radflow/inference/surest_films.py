"""The films on which a model is surest, rightly and wrongly, with its heat maps: what a radiologist asks for first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radflow.data.dataset.reading import Split
from radflow.evaluation.predictions import Predictions
from radflow.inference.evidence import Maps
from radflow.inference.heatmaps import tint
from radflow.plots.contact_sheet import COLUMNS, SheetFilm, draw_sheet
from radflow.plots.style import in_words


def surest_films(split: Split, predictions: Predictions, maps: Maps) -> Iterator[tuple[str, Image.Image]]:
    """Yield each finding that some film shows, and a sheet with rows of five films.

    They are those with the finding and the highest probability, those with it and the lowest, and those without it and
    the highest. Colours lie where the evidence is, as strong as the strongest of the film.
    """
    for index, finding in enumerate(predictions.findings):
        rows, labels, probabilities = predictions.of_finding(index)
        if not labels.any():
            continue
        falling = rows[np.argsort(-probabilities, kind="stable")]
        shows = predictions.labels[falling, index]
        chosen = {
            "found": falling[shows][:COLUMNS],
            "missed": falling[shows][COLUMNS:][::-1][:COLUMNS],
            "false alarm": falling[~shows][:COLUMNS],
        }
        films = []
        for kind, places in chosen.items():
            if len(places):
                films += _drawn(split, predictions, index, places, maps, kind)
                films += [_EMPTY] * (-len(places) % COLUMNS)
        yield finding, draw_sheet(f"{in_words(finding)}: surest films, right and wrong", films)


_EMPTY = SheetFilm(np.full((1, 1), 255, np.uint8), "", "")


def _drawn(
    split: Split, predictions: Predictions, index: int, places: NDArray[np.intp], maps: Maps, kind: str
) -> list[SheetFilm]:
    films = split.gather(places)
    evidence = maps(films)[..., index]
    return [
        SheetFilm(
            np.asarray(tint(Image.fromarray(film), of_film)),
            str(predictions.image_ids[place]),
            f"{kind}, {predictions.probabilities[place, index]:.3f}  {predictions.views[place]}",
        )
        for film, of_film, place in zip(films, evidence, places.tolist(), strict=True)
    ]
