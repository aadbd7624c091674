from __future__ import annotations

import numpy as np
import small_datasets

from benchmarks.drawn_predictions import predictions_of
from radflow.inference import surest_films as module
from radflow.inference.surest_films import surest_films


def test_each_row_has_the_films_that_it_is_named_after(tmp_path, monkeypatch) -> None:
    split = small_datasets.write(tmp_path / "data", 96).split("train")
    labels = (np.arange(len(split)) % 3 == 0)[:, np.newaxis]
    probabilities = np.random.default_rng(0).random((len(split), 1))
    drawn = {}
    monkeypatch.setattr(module, "draw_sheet", lambda heading, films: drawn.setdefault(heading, films))
    list(surest_films(split, predictions_of(labels, probabilities), lambda films: np.ones((len(films), 2, 2, 1))))
    (films,) = drawn.values()
    shown = [(film.facts.split(",")[0], int(film.image_id)) for film in films]
    order = np.argsort(-probabilities[:, 0]).tolist()
    positive = [row for row in order if labels[row, 0]]
    assert [row for kind, row in shown if kind == "found"] == positive[:5]
    assert [row for kind, row in shown if kind == "missed"] == positive[:-6:-1]
    assert [row for kind, row in shown if kind == "false alarm"] == [row for row in order if not labels[row, 0]][:5]


def test_sheets_are_in_colour_and_a_finding_without_films_has_none(tmp_path) -> None:
    split = small_datasets.write(tmp_path / "data", 40).split("train")
    labels = np.zeros((len(split), 2), bool)
    labels[:3, 0] = True
    sheets = dict(
        surest_films(
            split, predictions_of(labels, np.full(labels.shape, 0.4)), lambda films: np.eye(2)[[[0, 1]] * len(films)]
        )
    )
    assert list(sheets) == ["A"]
    assert sheets["A"].mode == "RGB"
    assert np.ptp(np.asarray(sheets["A"]).astype(int), axis=2).max() > 40
