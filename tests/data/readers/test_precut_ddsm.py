from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tfrecord_folder import example, made_crops, write_precut, write_records

from radflow.data.config import PreprocessConfig
from radflow.data.dataset import shards
from radflow.data.dataset.reading import Dataset
from radflow.data.preprocess import preprocess
from radflow.data.readers.precut_ddsm import PATHOLOGIES
from radflow.errors import UserError


def run(source: Path, out: Path, **settings: object) -> Dataset:
    return preprocess(PreprocessConfig(source=str(source), out=str(out), **{"workers": 1, **settings}))


def rejected(dataset: Dataset) -> dict[str, str]:
    with (dataset.path / "rejected.csv").open(newline="") as file:
        return {line["image_id"]: line["reason"] for line in csv.DictReader(file)}


def test_crops_labels_and_parts_arrive(tmp_path: Path) -> None:
    crops = write_precut(tmp_path / "ddsm")
    dataset = run(tmp_path / "ddsm", tmp_path / "out")
    assert (dataset.name, dataset.findings, dataset.image_size) == ("ddsm_precut", ("Tumour",), 299)
    assert {name: counts.rows for name, counts in dataset.manifest.splits.items()} == {
        "train": 18,
        "val": 2,
        "test": 10,
    }
    for split in ("train", "val", "test"):
        part = dataset.split(split)
        for place, image_id in enumerate(part.image_ids.tolist()):
            file, number = image_id.split(":")
            assert np.array_equal(part.gather(np.array([place]))[0], crops[file][int(number), :, :, 0])
            assert part.labels[place, 0] == (int(number) % 5 > 0)
            assert part.pathologies[place] == PATHOLOGIES[int(number) % 5]
            assert file.startswith("training10") == (split != "test")
    assert dataset.manifest.unit == "crops"
    assert "names no patients" in dataset.manifest.notes[0]
    assert (tmp_path / "out" / "rejected.csv").read_text() == "image_id,reason\n"


def test_damaged_records_are_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    write_precut(tmp_path / "ddsm")
    first, second = sorted((tmp_path / "ddsm").glob("*/*.tfrecords"))
    crop = made_crops(1, 7).tobytes()
    odd = [example(crop[1:], 1), example(crop, 5), example(crop, 2, 0), b"no message", b"", example(crop, 3)]
    write_records(first, odd)
    second.write_bytes(second.read_bytes()[:-400_000])
    test = tmp_path / "ddsm" / "test10_data" / "test10_data.npy"
    test.write_bytes(test.read_bytes()[:-100_000])
    with pytest.raises(UserError, match=r"crops of .* are missing or damaged, more than max_rejected=0\.01"):
        run(tmp_path / "ddsm", tmp_path / "out")
    dataset = run(tmp_path / "ddsm", tmp_path / "out", max_rejected=0.9, image_size=64)
    expected = "expected [0] with [0] or [1] to [4] with [1]"
    reasons = rejected(dataset)
    assert reasons.pop("training10_0:000003").startswith("no tf.train.Example")
    assert reasons == {
        "training10_0:000000": "image of 89,400 bytes, expected 89,401 (299x299)",
        "training10_0:000001": f"label [5] with label_normal [1], {expected}",
        "training10_0:000002": f"label [2] with label_normal [0], {expected}",
        "training10_0:000004": "no feature image that holds bytes",
        "training10_1:000005": "truncated: the file ends inside this record",
        "test10_data:000003": "truncated: test10_data.npy ends before this crop",
        "test10_data:000004": "truncated: test10_data.npy ends before this crop",
    }
    assert dataset.manifest.rows == 1 + 5 + 3 + 5


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    write_precut(tmp_path / "ddsm")
    one, two = (run(tmp_path / "ddsm", tmp_path / str(workers), workers=workers, image_size=32) for workers in (1, 2))
    assert one.digest == two.digest


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 5)
    write_precut(tmp_path / "ddsm")
    whole = run(tmp_path / "ddsm", tmp_path / "whole", image_size=32)

    def interrupt(done: int, total: int, rejected: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    config = PreprocessConfig(source=str(tmp_path / "ddsm"), out=str(tmp_path / "out"), image_size=32, workers=1)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, interrupt)
    seen: list[int] = []
    resumed = preprocess(config, lambda done, total, rejected: seen.append(done))
    assert seen[0] > 5
    assert resumed.digest == whole.digest


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(4), r"test10_data\.npy holds uint8 \(5, 299, 299, 1\), expected uint8 \(4, 299, 299, 1\)"),
        (np.array([None] * 5), r"is not a whole array: test10_labels.npy announces labels \(5,\) of type object"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    write_precut(tmp_path / "ddsm")
    np.save(tmp_path / "ddsm" / "test10_labels.npy", labels, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        run(tmp_path / "ddsm", tmp_path / "out")


def test_what_is_absent_or_empty_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*\.tfrecords in"):
        run(tmp_path, tmp_path / "out", layout="ddsm_precut")
    write_precut(tmp_path / "ddsm")
    with pytest.raises(UserError, match="split=random of ddsm_precut is out of range: expected official"):
        run(tmp_path / "ddsm", tmp_path / "out", split="random")
    (tmp_path / "ddsm" / "cv10_labels.npy").unlink()
    with pytest.raises(UserError, match=r"no cv10_labels\.npy in"):
        run(tmp_path / "ddsm", tmp_path / "out")
    (tmp_path / "ddsm" / "training10_0" / "training10_0.tfrecords").write_bytes(b"")
    with pytest.raises(UserError, match=r"training10_0\.tfrecords is empty"):
        run(tmp_path / "ddsm", tmp_path / "out")


def test_reading_records_does_not_import_tensorflow() -> None:
    code = "import sys, radflow.data.readers.precut_ddsm; print('tensorflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
