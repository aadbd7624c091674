"""Heat maps scored against the boxes that radiologists drew: whether a model looks where the finding is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radflow.data.dataset.reading import Split
from radflow.data.findings import plain_finding
from radflow.data.images.film import Fit
from radflow.data.readers.boxes import FindingBox
from radflow.evaluation.estimates import Estimate, mean_of_films, proportion
from radflow.evaluation.patients import patient_numbers
from radflow.inference.evidence import Maps

BATCH = 16
HOT = 0.5
"""Share of a map's largest value from which on a place belongs to the region that the map marks."""


@dataclass(frozen=True)
class BoxScore:
    """How a model's maps of one finding fit the boxes, over films; each number with its interval between patients."""

    films: int
    pointing: Estimate
    """Share of films on which the largest value of the map lies in a box (pointing game: Zhang et al. 2018)."""
    chance: float
    """What pointing anywhere would reach: the mean share of the film that the boxes cover."""
    overlap: Estimate
    """Mean intersection over union of the boxes and the region with at least `HOT` of the largest value."""


def score_boxes(
    split: Split, boxes: Sequence[FindingBox], findings: Sequence[str], fit: Fit, maps: Maps
) -> dict[str, BoxScore]:
    """Score the maps of each finding on the films that show it in a box; findings without such films are left out.

    `maps` gives those of `findings`. A box on a film whose size is not known cannot be placed and is left out.
    """
    places = {name: row for row, name in enumerate(split.image_ids.tolist())}
    column_of = {plain_finding(finding): column for column, finding in enumerate(findings)}
    wanted: dict[int, dict[int, list[FindingBox]]] = defaultdict(lambda: defaultdict(list))
    for box in boxes:
        row, column = places.get(box.image_id), column_of.get(plain_finding(box.finding))
        if row is not None and column is not None and box.film_width and box.film_height:
            wanted[row][column].append(box)
    scores: dict[int, list[tuple[int, bool, float, float]]] = defaultdict(list)
    rows = sorted(wanted)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        films = split.gather(np.array(batch))
        for row, evidence in zip(batch, maps(films), strict=True):
            for column, on_film in wanted[row].items():
                marked = _marked(on_film, films.shape[1], fit)
                scores[column].append((row, *_score(evidence[..., column], marked)))
    numbers = patient_numbers(split.patient_ids, len(split))
    return {findings[column]: _summary(scores[column], numbers) for column in sorted(scores)}


def _marked(boxes: Sequence[FindingBox], size: int, fit: Fit) -> NDArray[np.bool_]:
    """The pixels of a square film [size, size] that the boxes cover, at least one for each."""
    marked = np.zeros((size, size), bool)
    for box in boxes:
        left, top, scale_x, scale_y = _placement(box, size, fit)
        first_x, last_x = _pixels(left + box.x * scale_x, box.width * scale_x, size)
        first_y, last_y = _pixels(top + box.y * scale_y, box.height * scale_y, size)
        marked[first_y : last_y + 1, first_x : last_x + 1] = True
    return marked


def _placement(box: FindingBox, size: int, fit: Fit) -> tuple[float, float, float, float]:
    """Left and top of the film in its square of `size` pixels, and how much a pixel of it is there in x and y."""
    if fit == "squash":
        return 0.0, 0.0, size / box.film_width, size / box.film_height
    scale = size / max(box.film_width, box.film_height)
    return (size - box.film_width * scale) / 2, (size - box.film_height * scale) / 2, scale, scale


def _pixels(start: float, length: float, size: int) -> tuple[int, int]:
    """First and last pixel of a stretch."""
    first = min(max(round(start), 0), size - 1)
    return first, min(max(round(start + length) - 1, first), size - 1)


def _score(evidence: NDArray[np.float32], marked: NDArray[np.bool_]) -> tuple[bool, float, float]:
    """Whether the largest value is in the boxes, the share of the film that they cover, intersection over union."""
    size = marked.shape[::-1]
    whole = np.asarray(Image.fromarray(evidence.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    hit = bool(marked[np.unravel_index(int(np.argmax(whole)), whole.shape)])
    hot = whole >= HOT * whole.max() if whole.max() > 0 else np.zeros_like(marked)
    return hit, float(marked.mean()), float((hot & marked).sum() / (hot | marked).sum())


def _summary(scores: Sequence[tuple[int, bool, float, float]], numbers: NDArray[np.intp]) -> BoxScore:
    rows, hits, covered, overlaps = (np.array(column) for column in zip(*scores, strict=True))
    patients = numbers[rows]
    return BoxScore(
        films=len(rows),
        pointing=proportion(np.ones(len(rows), bool), hits, patients),
        chance=float(covered.mean()),
        overlap=mean_of_films(overlaps, patients),
    )
