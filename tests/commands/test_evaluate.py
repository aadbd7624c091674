"""`evaluate` on data of other findings and sizes than the model's, and on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import small_datasets
from mlflow import MlflowClient
from PIL import Image
from sklearn.metrics import roc_auc_score
from small_classifier import OUTPUTS, SIZE, save_small_classifier

from radflow.commands.evaluate import evaluate
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.writing import write_dataset
from radflow.data.readers.boxes import BOXES_NAME, FindingBox
from radflow.data.seen_patients import PATIENTS_FILE, SeenPatients
from radflow.errors import UserError
from radflow.evaluation.predictions import read_predictions
from radflow.inference.config import EvaluateConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # MLflow warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FINDINGS = ("Hernia", "nodule", "Pulmonary mass")
"""Findings of the dataset; the model gives Mass, Nodule and Edema."""


@pytest.fixture
def dataset(tmp_path: Path, store: MlflowClient) -> Dataset:
    """Films of 8 px, which the model takes at 32, in all splits."""
    header = replace(small_datasets.HEADER, name="elsewhere", findings=FINDINGS)
    with write_dataset(tmp_path / "data", header, small_datasets.made_table(96)) as writer:
        for row in range(96):
            writer.put(row, small_datasets.made_film(row))
    return open_dataset(tmp_path / "data")


def model_of(folder: Path, seen: SeenPatients) -> keras.Model:
    """Save a classifier that has seen these patients into `folder`/model."""
    seen.write(folder)
    return save_small_classifier(folder / "model", [folder / PATIENTS_FILE], OUTPUTS)


def test_films_from_elsewhere_are_all_judged_by_the_findings_that_both_know(
    dataset: Dataset, tmp_path: Path, store: MlflowClient
) -> None:
    model = model_of(tmp_path, SeenPatients())
    assessment = evaluate(EvaluateConfig(model=str(tmp_path / "model"), data="data", threads=1))
    tested = assessment.evaluation.predictions
    assert tested.findings == ("Mass", "Nodule")
    assert sorted(tested.image_ids) == sorted(small_datasets.made_table(96).image_ids)
    of_film = {name: row for row, name in enumerate(small_datasets.made_table(96).image_ids.tolist())}
    rows = [of_film[name] for name in tested.image_ids.tolist()]
    films = [np.asarray(Image.fromarray(small_datasets.made_film(row)).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
             for row in rows]  # fmt: skip
    expected = np.asarray(model(np.stack(films)))[:, :2]
    np.testing.assert_allclose(tested.probabilities, expected, rtol=1e-4)
    labels = small_datasets.made_table(96).labels[rows]
    (run,) = store.search_runs(["0"])
    assert run.data.metrics["external/auc/Nodule"] == pytest.approx(roc_auc_score(labels[:, 1], expected[:, 1]))
    assert run.data.metrics["external/auc/Mass"] == pytest.approx(roc_auc_score(labels[:, 2], expected[:, 0]))
    assert not [key for key in run.data.metrics if key.startswith("test/")]
    assert run.data.tags["radflow.evaluation"] == "external"


def test_its_own_dataset_is_judged_on_test_films_and_what_it_was_trained_on_refused(
    dataset: Dataset, tmp_path: Path, store: MlflowClient
) -> None:
    model_of(tmp_path, SeenPatients.of_training(dataset))
    config = EvaluateConfig(model=str(tmp_path / "model"), data="data", threads=1)
    assert set(evaluate(config).evaluation.predictions.splits) == {"test"}
    with pytest.raises(UserError, match=r"40 of 48 patients were seen in training \(32 trained on.*overlap=allow"):
        evaluate(replace(config, split="all"))
    allowed = evaluate(replace(config, split="all", overlap="allow"))
    assert len(allowed.evaluation.predictions) == 96
    assert {run.data.tags["radflow.evaluation"] for run in store.search_runs(["0"])} == {"test", "all"}


def test_results_are_divided_by_any_column_of_a_table(dataset: Dataset, tmp_path: Path, store: MlflowClient) -> None:
    model_of(tmp_path, SeenPatients())
    names = small_datasets.made_table(96).image_ids
    scanners = pd.DataFrame({"image_id": names, "scanner": np.where(np.arange(96) < 48, "A", "B")})
    scanners.to_csv("scanners.csv", index=False)
    config = EvaluateConfig(model=str(tmp_path / "model"), data="data", subgroup_table="scanners.csv", threads=1)
    parts = {(part.column, part.value): part.films for part in evaluate(config).evaluation.subgroups}
    assert parts == {("view", "AP"): 48, ("view", "PA"): 48, ("scanner", "A"): 48, ("scanner", "B"): 48}
    (table,) = Path("runs").glob("*/subgroups.csv")
    assert pd.read_csv(table)["films"].tolist() == [48] * 4
    assert len(read_predictions(table.with_name("predictions.parquet"))) == 96


def test_boxes_lie_where_the_dataset_put_its_films(
    tmp_path: Path, store: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wide films that were padded fill the middle half of their square, whatever the model's own films were."""
    header = replace(small_datasets.HEADER, findings=FINDINGS, fit="pad")
    with write_dataset(tmp_path / "data", header, small_datasets.made_table(96)) as writer:
        for row in range(96):
            writer.put(row, small_datasets.made_film(row))
        boxes = [FindingBox(f"{row:04d}.png", "nodule", 0, 0, 2000, 1000, 2000, 1000) for row in range(96)]
        writer.add_table(BOXES_NAME, FindingBox._fields, boxes)
    model_of(tmp_path, SeenPatients())
    evaluate(EvaluateConfig(model=str(tmp_path / "model"), data="data", threads=1))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["Nodule", "96"]]
    assert " 0.500 " in row  # what pointing anywhere would reach


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("study,scanner\n1,A\n", "neither image_id nor patient_id"),
        ("image_id,scanner\nelsewhere.png,A\n", "names none of the 96 films"),
        ("image_id,view\n0001.png,AP\n", "has a column view, as the films have"),
        ("image_id,scanner\n0001.png,A\n0001.png,B\n", "lists 0001.png twice"),
        ("image_id,n\n" + "".join(f"{row:04d}.png,{row}\n" for row in range(96)), "column n has 96 different values"),
    ],
)
def test_a_table_that_divides_nothing_is_one_line(dataset: Dataset, tmp_path: Path, table: str, words: str) -> None:
    model_of(tmp_path, SeenPatients())
    Path("table.csv").write_text(table)
    config = EvaluateConfig(model=str(tmp_path / "model"), data="data", subgroup_table="table.csv", threads=1)
    with pytest.raises(UserError, match=words):
        evaluate(config)


def test_no_common_finding_is_one_line(dataset: Dataset, tmp_path: Path, store: MlflowClient) -> None:
    save_small_classifier(tmp_path / "model", outputs=replace(OUTPUTS, findings=("A", "B", "C")))
    with pytest.raises(UserError, match=r"gives A, B, C, and data=.*data has none of these but Hernia"):
        evaluate(EvaluateConfig(model=str(tmp_path / "model"), data="data", threads=1))
