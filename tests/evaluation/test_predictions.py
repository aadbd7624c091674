from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions, read_predictions, write_predictions

# Neither alphabetical nor CheXNet's order, so that a reader that sorts is caught.
FINDINGS = ("Mass", "Hernia", "Edema")


@pytest.fixture
def predictions() -> Predictions:
    return Predictions(
        findings=FINDINGS,
        image_ids=["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png"],
        patient_ids=["1", "1", "2", ""],
        splits=["val", "val", "test", "test"],
        labels=[[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]],
        probabilities=[[0.9, 0.1, 0.2], [0.0, 1.0, 0.5], [0.3, 0.7, 0.1], [0.25, 0.5, 0.75]],
    )


def _frame(predictions: Predictions, path: Path) -> pd.DataFrame:
    write_predictions(path, predictions)
    return pd.read_parquet(path)


def test_another_reader_finds_a_row_per_film_and_two_columns_per_finding(
    predictions: Predictions, tmp_path: Path
) -> None:
    frame = _frame(predictions, tmp_path / "predictions.parquet")
    assert frame.columns.tolist() == [
        "image_id", "patient_id", "study_id", "film_id", "lesion_id", "view", "sex", "split", "pathology", "age",
        "label/Mass", "probability/Mass", "label/Hernia", "probability/Hernia", "label/Edema", "probability/Edema",
    ]  # fmt: skip
    assert frame["image_id"].tolist() == predictions.image_ids.tolist()
    assert frame["age"].isna().all()
    assert (frame[["study_id", "film_id", "lesion_id", "view", "sex", "pathology"]] == "").all(axis=None)
    assert frame["label/Hernia"].tolist() == [False, False, True, True]
    assert frame["probability/Edema"].dtype == np.float32
    assert frame["probability/Edema"].tolist() == pytest.approx([0.2, 0.5, 0.1, 0.75])


def test_labels_that_are_not_known_are_empty_cells(predictions: Predictions, tmp_path: Path) -> None:
    known = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1]], bool)
    uncertain = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    path = tmp_path / "predictions.parquet"
    frame = _frame(replace(predictions, known=known, uncertain=uncertain), path)
    assert frame["label/Mass"].tolist() == [True, None, False, True]
    assert frame["label/Edema"].tolist() == [False, False, None, True]
    assert frame["uncertain/Mass"].tolist() == [False, True, False, False]
    assert "uncertain/Edema" not in frame
    read = read_predictions(path)
    assert np.array_equal(read.known, known)
    assert np.array_equal(read.uncertain, uncertain)
    assert np.array_equal(read.labels, predictions.labels)


def test_what_is_written_is_read(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "new" / "predictions.parquet"
    write_predictions(path, predictions)
    read = read_predictions(path)
    assert read.findings == FINDINGS
    for name in ("image_ids", "patient_ids", "splits", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(read, name), getattr(predictions, name))
    assert read.labels.dtype == np.bool_
    assert read.probabilities.dtype == np.float32
    assert not read.are_crops
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]


def test_what_is_known_of_films_is_kept(predictions: Predictions, tmp_path: Path) -> None:
    known = {
        "study_ids": ["1_0", "1_1", "", "3_0"],
        "film_ids": ["a", "a", "b", "c"],
        "lesion_ids": ["a:lesion1", "", "", "c:lesion1"],
        "views": ["CC", "MLO", "CC", ""],
        "sexes": ["F", "F", "M", ""],
        "pathologies": ["benign", "normal", "normal", "malignant"],
        "ages": [57, 58, -1, 0],
    }
    path = tmp_path / "predictions.parquet"
    frame = _frame(Predictions(**(vars(predictions) | known)), path)
    assert frame["age"].tolist()[:2] + frame["age"].tolist()[3:] == [57, 58, 0]
    assert pd.isna(frame["age"][2])
    for part, rows in ((read_predictions(path), [0, 1, 2, 3]), (read_predictions(path).of_split("test"), [2, 3])):
        assert part.are_crops
        for name, column in known.items():
            assert getattr(part, name).tolist() == [column[row] for row in rows]


def test_no_film_at_all_is_written_and_read(tmp_path: Path) -> None:
    empty = Predictions(FINDINGS, [], [], [], np.zeros((0, 3)), np.zeros((0, 3)))
    write_predictions(tmp_path / "empty.parquet", empty)
    assert len(read_predictions(tmp_path / "empty.parquet")) == 0


def test_a_split_keeps_its_films_in_order(predictions: Predictions) -> None:
    test = predictions.of_split("test")
    assert test.image_ids.tolist() == ["00000002_000.png", "00000003_000.png"]
    assert test.patient_ids.tolist() == ["2", ""]
    assert test.labels.tolist() == [[False, True, False], [True, True, True]]
    assert test.probabilities[:, 2].tolist() == pytest.approx([0.1, 0.75])


def test_a_split_that_is_not_there_is_named_with_those_that_are(predictions: Predictions) -> None:
    with pytest.raises(UserError, match="'train'; they hold: test, val"):
        predictions.of_split("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((4, 2))}, r"labels has shape \(4, 2\); expected \(4, 3\)"),
        ({"patient_ids": ["1"]}, r"patient_ids has shape \(1,\); expected \(4,\)"),
        ({"probabilities": np.full((4, 3), np.nan)}, "12 do not, the first is nan"),
        ({"probabilities": np.full((4, 3), 1.5)}, r"between 0 and 1; 12 do not, the first is 1.5 \(Mass of 00000001_0"),
        ({"image_ids": ["a", "b", "a", "c"]}, "'a' appears 2 times"),
        ({"findings": ("Mass", "Mass", "Edema")}, "each finding may appear once"),
    ],
)
def test_what_does_not_fit_together_is_refused(predictions: Predictions, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictions(**(vars(predictions) | change))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.drop(columns="patient_id"), "no column 'patient_id'"),
        (lambda frame: frame.drop(columns="study_id"), "no column 'study_id' .* older radflow's: evaluate the model"),
        (lambda frame: frame.drop(columns="probability/Hernia"), "no column 'probability/Hernia'"),
        (lambda frame: frame.filter(regex="^(?!label)"), "no column label/<Finding>"),
        (lambda frame: frame.assign(note="x"), "unknown column 'note'"),
        (lambda frame: frame.astype({"label/Mass": "int64"}), "'label/Mass' holds int64; expected bool"),
        (lambda frame: frame.astype({"probability/Mass": "float64"}), "holds double; expected float"),
        (lambda frame: frame.assign(split=[None, "a", "b", "c"]), "'split' has 1 empty values"),
        (lambda frame: frame.assign(image_id="same"), "'same' appears 4 times"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(
    predictions: Predictions, tmp_path: Path, damage: object, message: str
) -> None:
    path = tmp_path / "damaged.parquet"
    damaged = damage(_frame(predictions, path))
    for column in damaged.select_dtypes("string"):
        damaged[column] = damaged[column].astype(object)
    damaged["age"] = damaged["age"].astype("Int16")
    damaged.to_parquet(path, index=False)
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert "damaged.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"image_id,split\n", b"PAR1 and then something else PAR1"])
def test_a_missing_or_unreadable_file_is_named_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.parquet") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)
