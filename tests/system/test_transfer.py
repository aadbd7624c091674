"""Transfer by the real commands: phantom mammograms, a comparison with its figures, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from commands import Command, run_entry_point, runs_of

TINY = ("--arch=vgg16", "--data=crops", "--epochs=2", "--base_lr=0.0005", "--threads=1")


@pytest.fixture(scope="session")
def crops(workplace: Path) -> Path:
    """Crops of a few phantom mammograms, 32 px, in the folder `crops` of the workplace."""
    for line in (
        "sample --kind=mammograms --out=mammograms --films=24 --image_size=400",
        "preprocess --source=mammograms --out=crops --image_size=32 --crop_size=64",
    ):
        run_entry_point(workplace, *line.split()).check_returncode()
    return workplace / "crops"


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--source=models:/nobody@champion", "--data=crops"], "nobody"),
        (["--source=runs:/0123456789abcdef0123456789abcdef/model", "--data=crops"], "cannot be fetched"),
        (["--source=none", "--data=dataset"], "none for Tumour"),
        (["--source=compare", "--pretrained=nowhere.keras", "--data=crops"], "nowhere.keras"),
        (["--source=compare", "--seeds=0"], "seeds=0"),
    ],
)
def test_mistakes(command: Command, crops: Path, flags: list[str], word: str) -> None:
    ended = command("transfer", *flags)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stderr
    assert word in errors[0]


@pytest.mark.long
def test_a_classifier_in_mlflow_is_compared_with_none(command: Command, workplace: Path, crops: Path) -> None:
    command("train", "--data=dataset", "--arch=vgg16", "--epochs=1", "--threads=1").check_returncode()
    source = f"runs:/{runs_of(workplace)[0].info.run_id}/model"
    line = ("transfer", "--source=compare", f"--pretrained={source}", "--seeds=2", "--frozen_epochs=0.5", *TINY)
    ended = command(*line)
    assert ended.returncode == 0, ended.stderr
    study = next(run for run in runs_of(workplace) if run.data.tags.get("radflow.kind") == "transfer-compare")
    children = [run for run in runs_of(workplace) if "radflow.arm" in run.data.tags]
    assert [run.info.status for run in children] == ["FINISHED"] * 4
    assert {run.data.params["cfg/weights"] for run in children} == {source, "none"}
    for child in children:
        assert {
            "test/auc/Tumour",
            "test/auc_per_lesion/Tumour",
            "test/auc_per_film/Tumour",
        } <= child.data.metrics.keys()
        assert "Tumour, per lesion" in child.data.tags["mlflow.note.content"]
    found = next(workplace.glob("runs/transfer-*/scratch-seed0/*/predictions.parquet"))
    assert {"film_id", "lesion_id"} <= set(pd.read_parquet(found).columns)
    assert "evidence" in study.data.tags["mlflow.note.content"]
    # The same command again trains nothing.
    again = command(*line)
    assert again.returncode == 0
    assert again.stderr.count("finished before") == 4
    assert len([run for run in runs_of(workplace) if "radflow.arm" in run.data.tags]) == 4


@pytest.mark.long
def test_one_training_on_ranks(command: Command, workplace: Path, crops: Path) -> None:
    ended = command("transfer", "--source=none", "--np=2", "--gbz=32", *TINY)
    assert ended.returncode == 0, ended.stderr
    run = next(run for run in runs_of(workplace) if run.data.params.get("cfg/ranks") == "2")
    films = int(run.data.params["cfg/effective_gbz"])
    assert float(run.data.params["cfg/peak_lr"]) == pytest.approx(0.0005 * (films / 8) ** 0.5)
    assert run.info.status == "FINISHED"
