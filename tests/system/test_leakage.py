"""A model of a random split on the official split, whose test patients it has seen: by the commands that users give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from commands import REPOSITORY, Command, run_entry_point, runs_of
from mlflow import MlflowClient
from mlflow.entities import Run
from pyarrow import ipc

pytestmark = pytest.mark.slow

TRAINING = ("--arch=vgg16", "--epochs=1", "--bz=64", "--threads=1")


@pytest.fixture(scope="module")
def random_split(workplace: Path) -> Path:
    """The phantoms of `dataset`, which has the official split, split at random and stored in another size and name."""
    flags = ("--source=films", "--out=random", "--image_size=32", "--split=random", "--seed=7", "--name=other")
    run_entry_point(workplace, "preprocess", *flags).check_returncode()
    return workplace / "random"


@pytest.fixture(scope="module")
def of_random_split(workplace: Path, random_split: Path) -> Run:
    """The run of a training on it."""
    ended = run_entry_point(workplace, "train", "--data=random", *TRAINING)
    assert ended.returncode == 0, ended.stderr
    assert "seen in training" not in ended.stderr
    run = runs_of(workplace)[0]
    assert run.data.metrics["leakage/patients"] == 0
    return run


def patients_of(dataset: Path, *splits: str) -> set[str]:
    """Read from the shards by pyarrow alone."""
    shards = [shard for split in splits for shard in dataset.glob(f"{split}-*.arrow")]
    return {patient for shard in shards for patient in ipc.open_file(shard).read_all()["patient_id"].to_pylist()}


def official_test_patients(workplace: Path) -> set[str]:
    """Read from the release's own files."""
    table = pd.read_csv(workplace / "films" / "Data_Entry_2017.csv")
    films = (workplace / "films" / "test_list.txt").read_text().split()
    return set(table.set_index("Image Index").loc[films, "Patient ID"].astype(str))


def warnings_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("warning: ")]


def files_of_model(workplace: Path, run: Run, folder: Path) -> Path:
    mlflow.set_tracking_uri(f"sqlite:///{workplace / 'mlflow.db'}")
    return Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model", dst_path=str(folder)))


def expected_words(trained: Iterable[str], validated: Iterable[str], judged: set[str]) -> tuple[int, str]:
    on, by = len(judged & set(trained)), len((judged & set(validated)) - set(trained))
    return on + by, (
        f"{on + by} of {len(judged)} test patients were seen in training ({on} trained on, {by} validated on)"
    )


def test_an_evaluation_counts_the_patients_that_the_model_has_seen(
    command: Command, workplace: Path, random_split: Path, of_random_split: Run
) -> None:
    judged = official_test_patients(workplace)
    seen, words = expected_words(patients_of(random_split, "train"), patients_of(random_split, "val"), judged)
    assert 0 < seen < len(judged)
    model = f"--model=runs:/{of_random_split.info.run_id}/model"
    refused = command("evaluate", model, "--data=dataset")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: {words}; AUCs of patients who were trained on")
    ended = command("evaluate", model, "--data=dataset", "--overlap=allow")
    assert ended.returncode == 0, ended.stderr
    assert warnings_of(ended.stderr) == [f"warning: {words}; these AUCs are too high"]
    run = runs_of(workplace)[0]
    assert run.data.metrics["leakage/patients"] == seen
    assert run.data.tags["radflow.leakage"] == words
    assert f"**Leakage: {words}.**" in run.data.tags["mlflow.note.content"]


def test_a_training_on_such_weights_is_warned_and_not_promoted(
    command: Command, workplace: Path, random_split: Path, of_random_split: Run, tmp_path: Path
) -> None:
    """By a copy of the .keras file, which has left the model that it was part of."""
    folder = files_of_model(workplace, of_random_split, tmp_path / "model")
    shutil.copyfile(folder / "data" / "model.keras", workplace / "mine.keras")
    judged = official_test_patients(workplace)
    seen, words = expected_words(patients_of(random_split, "train"), patients_of(random_split, "val"), judged)
    ended = command("train", "--data=dataset", "--weights=mine.keras", *TRAINING)
    assert ended.returncode == 0, ended.stderr
    first, second = warnings_of(ended.stderr)
    assert first == f"warning: {words}; test AUCs will be too high, and promote refuses the model"
    validation = len(patients_of(workplace / "dataset", "val") & patients_of(random_split, "train"))
    assert second.startswith(f"warning: {validation} of {len(patients_of(workplace / 'dataset', 'val'))} val patients")
    assert ended.stderr.index("val patients") < ended.stderr.index("epoch 1/1")
    run = runs_of(workplace)[0]
    assert (run.data.metrics["leakage/patients"], run.data.metrics["leakage/val_patients"]) == (seen, validation)
    assert f"**Leakage: {words}.**" in run.data.tags["mlflow.note.content"]

    # The model has seen what its weights had seen, and its own; the job's folder says the same.
    document = json.loads((files_of_model(workplace, run, tmp_path / "heir") / "patients.json").read_text())
    everyone = patients_of(random_split, "train") | patients_of(workplace / "dataset", "train")
    assert len({patient for source in document["sources"] for patient in source["trained"]}) == len(everyone)
    (kept,) = (path for path in workplace.glob("runs/*/patients.json") if run.info.run_id in job_of(path))
    assert json.loads(kept.read_text()) == document

    registry = REPOSITORY / "registry"
    rules = (f"--policy={registry / 'policy.yaml'}", f"--card={registry / 'model_card.md'}")
    promoted = command("promote", *rules, f"--run={run.info.run_id}")
    assert promoted.returncode == 0, promoted.stderr
    assert "refused" in promoted.stdout
    assert f"| {words} | no |" in runs_of(workplace)[0].data.tags["mlflow.note.content"]
    client = MlflowClient(f"sqlite:///{workplace / 'mlflow.db'}")
    assert not client.search_model_versions(f"run_id = '{run.info.run_id}'")


def job_of(patients_file: Path) -> str:
    return (patients_file.parent / "job.json").read_text()
