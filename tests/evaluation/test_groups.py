"""AUC per lesion and per film against crops that are averaged by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from radflow.errors import UserError
from radflow.evaluation.groups import auc_per_group, joined, joined_breasts
from radflow.evaluation.predictions import Predictions, read_predictions, write_predictions

CROPS = [
    # patient, film, lesion, label, probability
    ("A", "A_CC", "lesion1", 1, 0.9),
    ("A", "A_CC", "lesion1", 1, 0.1),
    ("A", "A_CC", "lesion2", 1, 0.3),
    ("A", "A_CC", "normal", 0, 0.4),
    ("A", "A_MLO", "lesion1", 1, 0.8),
    ("A", "A_MLO", "normal", 0, 0.2),
    ("A", "A_MLO", "normal", 0, 0.6),
    ("B", "B_CC", "lesion1", 1, 0.35),
    ("B", "B_CC", "normal", 0, 0.45),
    ("C", "C_CC", "normal", 0, 0.1),
]


def predictions() -> Predictions:
    patients, films, lesions, labels, probabilities = zip(*CROPS, strict=True)
    units = [f"{film}:{lesion}" for film, lesion in zip(films, lesions, strict=True)]
    lesion_ids = ["" if unit.endswith(":normal") else unit for unit in units]
    return Predictions(
        ("Tumour",),
        np.array([f"{lesion}:crop{number}" for number, lesion in enumerate(units)]),
        np.array(patients),
        np.full(len(CROPS), "test"),
        np.array(labels, bool)[:, np.newaxis],
        np.array(probabilities)[:, np.newaxis],
        np.array(films),
        np.array(lesion_ids),
    )


def test_a_lesion_has_the_mean_of_its_crops():
    lesions = joined(predictions(), "lesion")
    found = dict(zip(lesions.image_ids.tolist(), lesions.probabilities[:, 0].tolist(), strict=True))
    expected = {
        "A_CC:lesion1": 0.5, "A_CC:lesion2": 0.3, "A_CC:normal": 0.4, "A_MLO:lesion1": 0.8, "A_MLO:normal": 0.4,
        "B_CC:lesion1": 0.35, "B_CC:normal": 0.45, "C_CC:normal": 0.1,
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_tumour_and_normal_tissue_of_a_film_are_two_units():
    films = joined(predictions(), "film")
    assert films.probabilities[:, 0].tolist() == pytest.approx([0.4, 13 / 30, 0.4, 0.8, 0.45, 0.35, 0.1])
    assert films.labels[:, 0].tolist() == [False, True, False, True, False, True, False]


@pytest.mark.parametrize("group", ["lesion", "film"])
def test_the_auc_is_that_of_pandas_and_sklearn(group):
    table = pd.DataFrame(CROPS, columns=["patient", "film", "lesion", "label", "probability"])
    units = table.groupby(["film", "lesion" if group == "lesion" else "label"]).agg(
        {"label": "max", "probability": "mean"}
    )
    result = auc_per_group(predictions())[group]["Tumour"]
    assert result.auc == pytest.approx(roc_auc_score(units["label"], units["probability"]))
    assert (result.positives, result.negatives) == (int(units["label"].sum()), int((1 - units["label"]).sum()))


def test_the_file_keeps_films_and_lesions(tmp_path):
    write_predictions(tmp_path / "predictions.parquet", predictions())
    again = read_predictions(tmp_path / "predictions.parquet")
    np.testing.assert_array_equal(again.film_ids, predictions().film_ids)
    np.testing.assert_array_equal(again.lesion_ids, predictions().lesion_ids)
    assert auc_per_group(again) == auc_per_group(predictions())


def test_a_file_without_lesions_is_refused(tmp_path):
    path = tmp_path / "predictions.parquet"
    write_predictions(path, predictions())
    pq.write_table(pq.ParquetFile(path).read().drop_columns("lesion_id"), path)
    with pytest.raises(UserError, match="lesion_id"):
        read_predictions(path)


def test_whole_films_have_no_groups():
    films = Predictions(("Mass",), ["a", "b"], ["1", "2"], ["test"] * 2, [[True], [False]], [[0.2], [0.1]])
    assert auc_per_group(films) == {}


def test_a_lesion_of_two_patients_is_an_error():
    wrong = predictions()
    wrong.patient_ids[0] = "Z"
    with pytest.raises(ValueError, match="one lesion differ"):
        joined(wrong, "lesion")


def views(**flags: list[int]) -> Predictions:
    """Two views of A's left breast, one of its right, two studies of B's left one, and a film without a side."""
    return Predictions(
        ("Malignant",),
        np.array(["A_L_CC", "A_L_MLO", "A_R_CC", "B_L_1", "B_L_2", "C"]),
        np.array(["A", "A", "A", "B", "B", "C"]),
        np.full(6, "test"),
        np.array(flags.get("labels", [0, 1, 0, 1, 0, 1]), bool)[:, np.newaxis],
        np.array([0.2, 0.6, 0.3, 0.7, 0.1, 0.35])[:, np.newaxis],
        study_ids=np.array(["", "", "", "1", "2", ""]),
        sides=np.array(["L", "L", "R", "L", "L", ""]),
        **{name: np.array(flag, bool)[:, np.newaxis] for name, flag in flags.items() if name != "labels"},
    )


def test_a_breast_has_the_mean_of_its_views_and_what_one_of_them_shows() -> None:
    breasts = joined_breasts(views())
    assert breasts.image_ids.tolist() == ["A//L", "A//R", "B/1/L", "B/2/L", "C"]
    assert breasts.probabilities[:, 0].tolist() == pytest.approx([0.4, 0.3, 0.7, 0.1, 0.35])
    assert breasts.labels[:, 0].tolist() == [True, False, True, False, True]
    result = auc_per_group(views())["breast"]["Malignant"]
    assert result.auc == roc_auc_score([1, 0, 1, 0, 1], [0.4, 0.3, 0.7, 0.1, 0.35])


def test_a_breast_is_unknown_where_one_view_is_and_the_others_show_nothing() -> None:
    breasts = joined_breasts(views(labels=[0, 1, 0, 0, 0, 0], known=[0, 1, 0, 1, 0, 1], uncertain=[1, 0, 1, 0, 0, 0]))
    flags = np.concatenate([breasts.labels, breasts.known, breasts.uncertain], axis=1).astype(int).tolist()
    assert flags == [[1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_sides_stay_in_the_file_of_predictions(tmp_path) -> None:
    write_predictions(tmp_path / "p.parquet", views())
    assert read_predictions(tmp_path / "p.parquet").sides.tolist() == views().sides.tolist()
    write_predictions(tmp_path / "q.parquet", predictions())
    assert "side" not in pq.read_schema(tmp_path / "q.parquet").names
    assert not read_predictions(tmp_path / "q.parquet").sides.any()
