"""Datasets that are damaged, replaced or none: each is told, and none is read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from small_datasets import FINDINGS, HEADER, SIZE, made_film, made_table, write

from radflow.data.dataset import shards
from radflow.data.dataset.reading import Dataset, open_dataset, verify_dataset
from radflow.data.dataset.writing import write_dataset
from radflow.errors import UserError
from radflow.files import sha256_file


@pytest.mark.usefixtures("small_shards")
def test_a_flipped_bit_is_found_by_name(tmp_path: Path) -> None:
    dataset = write(tmp_path / "made")
    assert verify_dataset(dataset.path) == dataset
    shard = dataset.path / "train-00001.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"train-00001\.arrow is damaged"):
        verify_dataset(dataset.path)
    with pytest.raises(UserError, match=r"train-00001\.arrow is damaged"):
        open_dataset(dataset.path).split("train")
    assert len(open_dataset(dataset.path).split("val"))


def test_a_file_is_hashed_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write(tmp_path / "made")
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr("radflow.data.dataset.verified.sha256_file", counted)
    open_dataset(dataset.path).split("train")
    open_dataset(dataset.path).split("train")
    assert hashed == ["train-00000.arrow"]
    shard = dataset.path / "train-00000.arrow"
    known = shard.stat()
    shard.write_bytes(shard.read_bytes()[:-9] + b"different")
    os.utime(shard, ns=(known.st_atime_ns, known.st_mtime_ns))
    with pytest.raises(UserError, match=r"train-00000\.arrow is damaged"):
        open_dataset(dataset.path).split("train")


def test_a_dataset_opens_where_nothing_can_be_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path / "file"))
    assert len(write(tmp_path / "made").split("val"))


OPEN = """
import sys
from radflow.data.dataset.reading import open_dataset
from radflow.errors import UserError
from radflow.files import sha256_file
try:
    print(len(open_dataset(sys.argv[1]).split("val")))
except UserError as error:
    print(error)
"""


def with_right_hash(dataset: Dataset, shard: bytes) -> None:
    """Replace the val shard, and its hash, as somebody would who means harm."""
    path = dataset.path / "val-00000.arrow"
    before = sha256_file(path)
    path.write_bytes(shard)
    manifest = dataset.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, sha256_file(path)))


def test_offsets_that_lead_out_of_a_shard_are_not_followed(tmp_path: Path) -> None:
    """Opened in a separate process, which they would end by SIGSEGV or SIGBUS."""
    dataset = write(tmp_path / "made")
    content = bytearray((dataset.path / "val-00000.arrow").read_bytes())
    offsets = np.arange(0, 7 * 8, 8, dtype="<i4").tobytes()  # of image_id: six texts such as 0004.png
    place = content.index(offsets)
    content[place + 16 : place + 20] = (2**31 - 1).to_bytes(4, "little")
    with_right_hash(dataset, bytes(content))
    opened = subprocess.run([sys.executable, "-c", OPEN, dataset.path], capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened
    assert "val-00000.arrow is damaged" in opened.stdout


def shard_of(size: int = SIZE, findings: int = 3, name: str | None = "a", batches: int = 1) -> bytes:
    columns = {
        "image": pa.array([bytes(size * size)], pa.binary(size * size)),
        "labels": pa.array([[True] * findings], pa.list_(pa.bool_(), findings)),
        "image_id": pa.array([name], pa.string()),
        **dict.fromkeys(shards.TEXTS.keys() - {"image_id"}, pa.array(["x"], pa.string())),
        "age": pa.array([57], pa.int16()),
    }
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("shard", "reason"),
    [
        (shard_of(size=2 * SIZE), r"column image holds fixed_size_binary\[256\], expected fixed_size_binary\[64\]"),
        (shard_of(findings=2), "column labels holds fixed_size_list"),
        (shard_of(name=None), "column image_id has empty values"),
        (shard_of(name="x" * 130_000), "a text of 130,000 letters, the limit is 1000"),
        (shard_of(batches=2), "2 record batches, expected one"),
        (b"ARROW1", "is damaged"),
    ],
)
def test_another_arrow_file_is_told_from_a_shard(tmp_path: Path, shard: bytes, reason: str) -> None:
    path = tmp_path / "val-00000.arrow"
    path.write_bytes(shard)
    with pytest.raises(UserError, match=reason) as told:
        shards.map_shard(path, SIZE, len(FINDINGS))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 1e999),
        ("image_size", 0),
        ("image_size", -8),
        ("image_size", 10**9),
        ("findings", "Mass"),
        ("rejected", -1),
        ("name", ["made"]),
        ("notes", [1]),
        ("task", "two words"),
        ("splits", {"train": {"rows": "many", "patients": 1, "no_finding": 1, "positives": {}}}),
        ("splits", {"train": {"rows": 1, "patients": 1, "no_finding": 1, "positives": {"Mass": 1}}}),
        ("shards", [{"file": "a.arrow", "split": "val", "rows": 1, "bytes": None, "sha256": ""}]),
        ("shards", [{"file": "a" * 300, "split": "val", "rows": 1, "bytes": 1, "sha256": ""}]),
        ("sources", {"a": 1}),
    ],
)
def test_values_of_another_type_or_range_are_told(tmp_path: Path, key: str, value: object) -> None:
    path = write(tmp_path / "made").path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match="is damaged"):
        open_dataset(path.parent)


def test_a_dataset_replaced_before_its_films_are_mapped_is_refused(tmp_path: Path) -> None:
    """The films of another dataset of the same counts, under the manifest that was read: nothing else would tell."""
    before = write(tmp_path / "made")
    first = before.split("train").gather(np.arange(28))
    with write_dataset(tmp_path / "made", HEADER, made_table(40)) as writer:
        for row in range(40):
            writer.put(row, made_film(row + 1000))
    for split in ("val", "test"):
        with pytest.raises(UserError, match="was replaced while it was being read"):
            before.split(split)
    # What was mapped stays as it was; who opens it now gets the new films.
    assert np.array_equal(before.split("train").gather(np.arange(28)), first)
    assert np.array_equal(open_dataset(tmp_path / "made").split("train").gather(np.array([0]))[0], made_film(1000))


def test_a_dataset_that_vanishes_is_said_to_be_replaced(tmp_path: Path) -> None:
    """Its shards are gone while it is being replaced; that is not damage."""
    dataset = write(tmp_path / "made")
    dataset.path.rename(tmp_path / "aside")
    with pytest.raises(UserError, match="was replaced while it was being read"):
        dataset.split("train")


def test_what_is_no_whole_dataset_is_one_line(tmp_path: Path) -> None:
    dataset = write(tmp_path / "made")
    manifest, shard = dataset.path / "manifest.json", dataset.path / "val-00000.arrow"
    text, pixels = manifest.read_text(), shard.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message) as error:
            open_dataset(dataset.path)
        assert "\n" not in str(error.value)

    shard.write_bytes(pixels[:-1])
    refused(r"val-00000\.arrow has [\d,]+ bytes, the manifest says")
    shard.unlink()
    refused(r"val-00000\.arrow is missing")
    shard.write_bytes(pixels)
    manifest.write_text(text.replace('"version": 3', '"version": 1'))
    refused("has version 1, this radflow reads versions 2 and 3; preprocess again")
    manifest.write_text(text[:200])
    refused("cannot be read")
    manifest.write_text("[]")
    refused("not a radflow dataset manifest")
    manifest.write_text(json.dumps({"format": "radflow-dataset", "version": 2}))
    refused("is damaged")
    manifest.unlink()
    refused("manifest.json is missing; make one with preprocess")


def test_a_manifest_without_a_task_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "made").path / "manifest.json"
    content = json.loads(path.read_text())
    assert content.pop("task") == "other"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"is damaged \(KeyError\('task'\)\); make the dataset again with preprocess"):
        open_dataset(path.parent)
