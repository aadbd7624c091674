"""What an evaluation shows of single films: boxes scored, and the surest films with their heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras

from radflow.data.dataset.reading import Dataset
from radflow.data.findings import key_of
from radflow.data.readers.boxes import read_boxes
from radflow.evaluation.predictions import Predictions
from radflow.files import atomic_file
from radflow.inference.box_scores import BoxScore, score_boxes
from radflow.inference.description import fit_named
from radflow.inference.evidence import Maps, maps_of
from radflow.inference.judged_films import JudgedFilms
from radflow.inference.surest_films import surest_films
from radflow.plots.page import Section, picture_of
from radflow.plots.style import in_words
from radflow.plots.tables import terminal_table
from radflow.terminal import print_table, say
from radflow.tracking.run import TrackedRun

SUREST_FOLDER = "surest_films"


def look_at_films(
    model: keras.Model,
    dataset: Dataset,
    judged: JudgedFilms,
    predictions: Predictions,
    folder: Path,
    run: TrackedRun,
) -> list[Section]:
    """Score boxes where the dataset has them, draw the surest films, log both, and return them for the report.

    Nothing of a model without activation maps.
    """
    maps = maps_of(model, judged.columns)
    if maps is None:
        say("this model has no activation maps: no boxes are scored and no films are drawn")
        return []
    return [*_score_boxes(dataset, judged, maps, run), *_draw_surest(judged, predictions, maps, folder, run)]


def _score_boxes(dataset: Dataset, judged: JudgedFilms, maps: Maps, run: TrackedRun) -> list[Section]:
    is_joined = len(dataset.parts) > 1  # then the name of a film begins with that of its dataset
    boxes = [
        box._replace(image_id=f"{part.name}/{box.image_id}") if is_joined else box
        for part in dataset.parts
        for box in read_boxes(part)
    ]
    fit = fit_named(dataset.manifest.fit)
    if not boxes:
        return []
    if fit == "breast":
        say(f"{len(boxes):,} boxes are not scored: where a breast lay in its film is not kept")
        return []
    scores = score_boxes(judged.split, boxes, judged.outputs.findings, fit, maps)
    if not scores:
        say(f"none of {len(boxes):,} boxes is of these findings on these films")
        return []
    headings = ("Finding", "Films with boxes", "Largest value in a box", "by chance", "Overlap (IoU)")
    rows = [_box_row(finding, score) for finding, score in scores.items()]
    print_table(terminal_table("Heat maps against the radiologists' boxes", headings, rows, align="lrrrr"))
    run.log_metrics(_box_metrics(scores), step=0)
    text = (
        "Class activation maps held against the boxes that radiologists drew: whether the largest value lies in a box "
        "(pointing game), and intersection over union of the boxes with the region of at least half of it."
    )
    return [Section("Where the model looks", text, headings, rows)]


def _box_row(finding: str, score: BoxScore) -> tuple[str, ...]:
    return in_words(finding), f"{score.films:,}", str(score.pointing), f"{score.chance:.3f}", str(score.overlap)


def _box_metrics(scores: Mapping[str, BoxScore]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for finding, score in scores.items():
        metrics[f"boxes/pointing/{key_of(finding)}"] = score.pointing.value
        metrics[f"boxes/overlap/{key_of(finding)}"] = score.overlap.value
    return metrics


def _draw_surest(
    judged: JudgedFilms, predictions: Predictions, maps: Maps, folder: Path, run: TrackedRun
) -> list[Section]:
    pictures = []
    for finding, sheet in surest_films(judged.split, predictions, maps):
        path = folder / SUREST_FOLDER / f"{key_of(finding)}.png"
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as temporary:
            sheet.save(temporary, format="PNG")
        run.log_file(path, f"figures/{SUREST_FOLDER}")
        pictures.append(picture_of(sheet))
    text = (
        "With the finding and the highest probability, with it and the lowest, and without it and the highest. Colours "
        "lie where the evidence is."
    )
    return [Section("The surest films, right and wrong", text, pictures=pictures)] if pictures else []
