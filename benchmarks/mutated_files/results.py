"""What radflow writes itself, as small as it can be: datasets, predictions, checkpoints, journals; and weights."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import optuna

from benchmarks.mutated_files.small_file import SmallFile
from radflow.data.dataset.manifest import MANIFEST_NAME, SplitRule
from radflow.data.dataset.reading import open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.unfinished import unfinished_dataset
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.evaluation.predictions import Predictions, read_predictions, write_predictions
from radflow.models.weights_file import check_weights_file
from radflow.search.journal import open_journal
from radflow.search.study import ended_trials
from radflow.tracking.spool import RunAddress, Spool
from radflow.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from radflow.training.history import read_epochs
from radflow.training.job_folder import JOB_FILE, read_job

SIZE = 16
FINDINGS = ("Mass", "Nodule")


def _write_made_dataset(folder: Path) -> None:
    rows = np.arange(12)
    table = FilmTable(
        image_ids=np.array([f"{row:04d}.png" for row in rows]),
        patient_ids=np.array([f"{row // 2}" for row in rows]),
        views=np.where(rows % 2, "PA", "AP"),
        splits=np.array(["train", "val", "test"])[rows // 2 % 3],
        labels=np.stack([rows % 2 == 0, rows % 3 == 0], axis=1),
    )
    rule, sources = SplitRule("random", 0, 0.2, 0.2), {"labels.csv": "0" * 64}
    header = DatasetHeader(name="made", image_size=SIZE, findings=FINDINGS, split_rule=rule, sources=sources)
    with write_dataset(str(folder), header, table) as writer:
        for row in rows.tolist():
            writer.put(row, np.full((SIZE, SIZE), row, np.uint8))


SHARD = "train-00000.arrow"


def made_dataset() -> dict[str, bytes]:
    """The files of a small dataset by name."""
    with tempfile.TemporaryDirectory() as temporary:
        _write_made_dataset(Path(temporary, "made"))
        return {path.name: path.read_bytes() for path in Path(temporary, "made").iterdir()}


def _write_dataset(whole: dict[str, bytes], mutated: str, right_hash: bool, content: bytes, path: Path) -> None:
    """Write a dataset of which one file is mutated, its size and its hash in the manifest right or not."""
    files = {**whole, mutated: content}
    if right_hash:
        manifest = files["manifest.json"].decode()
        manifest = manifest.replace(hashlib.sha256(whole[mutated]).hexdigest(), hashlib.sha256(content).hexdigest())
        files["manifest.json"] = manifest.replace(
            f'"bytes": {len(whole[mutated])},', f'"bytes": {len(content)},'
        ).encode()
    for name, each in files.items():
        (path.parent / name).write_bytes(each)


def _read_dataset(path: Path) -> None:
    dataset = open_dataset(path.parent)
    for name in dict.fromkeys(shard.split for shard in dataset.manifest.shards):
        split = dataset.split(name)
        split.gather(np.arange(len(split)))
        if split.labels.shape != (len(split), len(dataset.findings)):
            raise AssertionError(f"labels of {split.labels.shape}")


def predictions() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        names = [f"{row}.png" for row in range(20)]
        made = Predictions(
            FINDINGS, names, names, ["test"] * 20, np.eye(20, 2, dtype=bool), np.full((20, 2), 0.25, np.float32)
        )
        write_predictions(Path(temporary, "predictions.parquet"), made)
        return Path(temporary, "predictions.parquet").read_bytes()


def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        made = Checkpoint([np.arange(20.0), np.ones((3, 4))], [np.zeros(5)], {"epoch": 1, "history": [{"loss": 0.5}]})
        write_checkpoint(Path(temporary, "step.npz"), made)
        return Path(temporary, "step.npz").read_bytes()


def _with_digest(content: bytes, path: Path) -> None:
    path.write_bytes(content + hashlib.sha256(content).digest())


def journal() -> bytes:
    """The journal of a search of three trials."""
    with tempfile.TemporaryDirectory() as temporary:
        study = optuna.create_study(study_name="study", storage=open_journal(Path(temporary, "study.journal")))
        study.set_user_attr("definition", {"space": {"search": {"x": {"low": 0, "high": 1}}}})
        for value in (0.5, 0.25, 0.75):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.report(value, 1)
            study.tell(trial, value)
        return Path(temporary, "study.journal").read_bytes()


def _read_journal(path: Path) -> None:
    """Open it, as the next search does, read its trials and add one."""
    storage = open_journal(path)
    names = optuna.get_all_study_names(storage)
    if "study" not in names:  # the record that makes it was cut off
        return
    study = optuna.load_study(study_name="study", storage=storage)
    ended_trials(study)
    study.add_trial(optuna.trial.create_trial(value=0.1))
    if not study.trials:
        raise AssertionError("the trial that was added is not there")


def _read_spool(path: Path) -> None:
    Spool(path.parent.parent, RunAddress("sqlite:///x.db", path.parent.name)).read()


def _read_history(path: Path) -> None:
    list(read_epochs(path))


def _read_weights(path: Path) -> None:
    check_weights_file(str(path))


def _read_unfinished(path: Path) -> None:
    with unfinished_dataset(path.parent, "d" * 64) as unfinished:
        list(unfinished.whole)


def _write_keras(weights: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": weights}.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def hdf5() -> bytes:
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("layers/conv1/vars/0", data=np.arange(60, dtype=np.float32))
    return content.getvalue()


def keras_archive() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        _write_keras(hdf5(), Path(temporary, "model.keras"))
        return Path(temporary, "model.keras").read_bytes()


RUN = "0" * 32
JOB = {"run_id": RUN, "settings": {"arch": "vgg16", "gbz": 16, "resume": "none", "base_lr": 0.001}}
SHARD_LINE = {"number": 0, "entry": None, "rejections": {"1": "torn"}, "left_out": {}}


def _lines(*documents: object) -> bytes:
    return "".join(f"{json.dumps(document)}\n" for document in documents).encode()


def dataset_files() -> dict[str, SmallFile]:
    """Kinds by name."""
    made = made_dataset()

    def of_dataset(name: str, right_hash: bool, weight: int, is_hashed: bool = False) -> SmallFile:
        write = partial(_write_dataset, made, name, right_hash)
        return SmallFile(name, made[name], _read_dataset, write, weight, is_hashed)

    return {
        "shard": of_dataset(SHARD, False, 4, is_hashed=True),
        "shard, hash right": of_dataset(SHARD, True, 12),
        "manifest": of_dataset(MANIFEST_NAME, False, 8),
        "journal of a dataset": SmallFile(
            "journal.jsonl", _lines({"digest": "d" * 64}, *[SHARD_LINE] * 5), _read_unfinished
        ),
    }


def result_files() -> dict[str, SmallFile]:
    """Kinds by name."""
    points = {"kind": "metrics", "points": [["train/loss", 1.0, 1, 1]]}
    address = json.dumps({"tracking_uri": "sqlite:///x.db", "run_id": RUN})
    return {
        "predictions": SmallFile("predictions.parquet", predictions(), read_predictions, weight=8),
        "checkpoint": SmallFile("step.npz", checkpoint(), read_checkpoint, is_hashed=True),
        "checkpoint, hash right": SmallFile("step.npz", checkpoint()[:-32], read_checkpoint, _with_digest, weight=8),
        "journal of a search": SmallFile("study.journal", journal(), _read_journal, weight=12),
        "job.json": SmallFile(JOB_FILE, json.dumps(JOB).encode(), lambda path: read_job(path.parent)),
        "history": SmallFile("history.jsonl", _lines(*[{"epoch": 1, "val/loss": 0.5}] * 9), _read_history),
        "run.json": SmallFile(f"{RUN}/run.json", address.encode(), RunAddress.read),
        "spooled records": SmallFile(f"{RUN}/records.jsonl", _lines(*[points] * 9), _read_spool),
    }


def weights_files() -> dict[str, SmallFile]:
    """Kinds by name; few of each, as a process reads every one."""
    archive = keras_archive()
    return {
        "HDF5": SmallFile("body.weights.h5", hdf5(), _read_weights, weight=1),
        "keras": SmallFile("model.keras", archive, _read_weights, weight=1),
        "HDF5 in whole keras": SmallFile("model.keras", hdf5(), _read_weights, _write_keras, weight=1),
    }
