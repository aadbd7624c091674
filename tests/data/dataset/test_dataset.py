from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc

from radflow.data.dataset import shards
from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset, verify_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.errors import UserError
from radflow.files import sha256_file

SIZE = 8
FINDINGS = ("Mass", "Nodule", "Hernia")
HEADER = DatasetHeader(
    name="made",
    image_size=SIZE,
    findings=FINDINGS,
    split_rule=SplitRule("random", 0, 0.2, 0.2),
    sources={"a.csv": "0" * 64},
)


def made_table(films: int) -> FilmTable:
    rows = np.arange(films)
    return FilmTable(
        image_ids=np.array([f"{row:04d}.png" for row in rows]),
        patient_ids=np.array([str(row // 2) for row in rows]),
        views=np.where(rows % 2, "PA", "AP"),
        splits=np.array(["train", "train", "val", "train", "train", "test"])[rows // 2 % 6],
        labels=np.stack([rows % 2 == 0, rows % 3 == 0, rows % 7 == 0], axis=1),
    )


def made_film(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)


def write(path: Path, films: int = 40, rejected: tuple[int, ...] = (), order: list[int] | None = None) -> Dataset:
    with write_dataset(path, HEADER, made_table(films)) as writer:
        for row in order or range(films):
            if row in rejected:
                writer.reject(row, "torn")
            else:
                writer.put(row, made_film(row))
    return open_dataset(path)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 7)


@pytest.mark.usefixtures("small_shards")
def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    dataset, table = write(tmp_path / "made"), made_table(40)
    assert (dataset.name, dataset.image_size, dataset.findings) == ("made", SIZE, FINDINGS)
    for name in ("train", "val", "test"):
        rows = np.flatnonzero(table.splits == name)
        split = dataset.split(name)
        assert split.image_ids.tolist() == table.image_ids[rows].tolist()
        assert split.patient_ids.tolist() == table.patient_ids[rows].tolist()
        assert split.views.tolist() == table.views[rows].tolist()
        assert np.array_equal(split.labels, table.labels[rows])
        assert np.array_equal(split.gather(np.arange(len(split))), np.stack([made_film(row) for row in rows]))
        counts = dataset.manifest.splits[name]
        assert counts.rows == len(rows)
        assert counts.positives == dict(zip(FINDINGS, table.labels[rows].sum(axis=0).tolist(), strict=True))
        assert counts.no_finding == int((~table.labels[rows].any(axis=1)).sum())


@pytest.mark.usefixtures("small_shards")
def test_any_order_of_films_gives_the_same_files(tmp_path: Path) -> None:
    backwards = list(reversed(range(40)))
    first = write(tmp_path / "a", rejected=(3, 20))
    second = write(tmp_path / "b", rejected=(3, 20), order=backwards)
    assert first.digest == second.digest
    files = sorted(path.name for path in first.path.iterdir())
    assert files == sorted(path.name for path in second.path.iterdir())
    assert all((first.path / name).read_bytes() == (second.path / name).read_bytes() for name in files)


@pytest.mark.usefixtures("small_shards")
def test_rejected_films_leave_no_gap_and_are_named(tmp_path: Path) -> None:
    table = made_table(40)
    whole_shard = tuple(np.flatnonzero(table.splits == "train")[:7].tolist())
    dataset = write(tmp_path / "made", rejected=(*whole_shard, 30))
    kept = [row for row in np.flatnonzero(table.splits == "train") if row not in (*whole_shard, 30)]
    train = dataset.split("train")
    assert np.array_equal(train.gather(np.arange(len(train))), np.stack([made_film(row) for row in kept]))
    assert dataset.manifest.rejected == 8
    with (dataset.path / "rejected.csv").open(newline="") as file:
        listed = [line["image_id"] for line in csv.DictReader(file) if line["reason"] == "torn"]
    assert listed == table.image_ids[[*whole_shard, 30]].tolist()


def test_rows_left_out_are_named_and_not_counted_as_rejected(tmp_path: Path) -> None:
    table = made_table(12)
    with write_dataset(tmp_path / "made", HEADER, table) as writer:
        for row in reversed(range(12)):
            if row in (2, 5):
                writer.leave_out(row, "no room")
            else:
                writer.put(row, made_film(row))
        assert writer.rejected == 0
    dataset = open_dataset(tmp_path / "made")
    assert (dataset.manifest.rows, dataset.manifest.rejected, dataset.manifest.unlisted) == (10, 0, 2)
    lines = (dataset.path / "rejected.csv").read_text().splitlines()
    assert lines == ["image_id,reason", f"{table.image_ids[2]},no room", f"{table.image_ids[5]},no room"]
    kept = [row for row in np.flatnonzero(table.splits == "train") if row not in (2, 5)]
    assert dataset.split("train").image_ids.tolist() == table.image_ids[kept].tolist()


@given(indices=st.lists(st.integers(0, 26), max_size=60))
def test_gather_is_indexing(indices: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "gathered"
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "MAX_SHARD_ROWS", 7)
            write(path)
    train = open_dataset(path).split("train")
    every_film = np.stack([made_film(row) for row in np.flatnonzero(made_table(40).splits == "train")])
    assert np.array_equal(train.gather(np.array(indices, dtype=np.int64)), every_film[indices])


@pytest.mark.parametrize("index", [-1, 28])
def test_gather_outside_the_split_is_an_error(tmp_path: Path, index: int) -> None:
    train = write(tmp_path / "made").split("train")
    assert len(train) == 28
    with pytest.raises(IndexError, match="split train has 28 films"):
        train.gather(np.array([0, index]))


def test_shards_are_plain_arrow_files(tmp_path: Path) -> None:
    dataset = write(tmp_path / "made")
    with ipc.open_file(dataset.path / "test-00000.arrow") as file:
        table = file.read_all()
    assert table.schema.field("image").type == pa.binary(SIZE * SIZE)
    assert table.schema.field("labels").type == pa.list_(pa.bool_(), len(FINDINGS))
    assert table.column_names == [
        *("image", "labels", "image_id", "patient_id", "study_id", "film_id", "lesion_id"),
        *("view", "sex", "split", "pathology", "age"),
    ]
    assert table["age"].null_count == table.num_rows
    assert set(table["split"].to_pylist()) == {"test"}


def test_unknown_and_empty_splits_are_errors(tmp_path: Path) -> None:
    dataset = write(tmp_path / "made", films=10)
    with pytest.raises(UserError, match=r"no films in split 'test'; it has train \(8\), val \(2\), test \(0\)"):
        dataset.split("test")
    with pytest.raises(UserError, match="no films in split 'training'"):
        dataset.split("training")


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
    """In a process of its own, which they would end by SIGSEGV or SIGBUS."""
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
        ("task", "teeth"),
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
    """In the middle of a replacement its shards are gone, which is no damage."""
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
    manifest.write_text(text.replace('"version": 2', '"version": 1'))
    refused("has version 1, this radflow reads version 2; preprocess again")
    manifest.write_text(text[:200])
    refused("cannot be read")
    manifest.write_text("[]")
    refused("no radflow dataset manifest")
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


@pytest.mark.usefixtures("small_shards")
def test_all_that_is_known_of_films_is_kept(tmp_path: Path) -> None:
    table = replace(
        made_table(40),
        study_ids=np.array([f"{row // 2}_{row % 2}" for row in range(40)]),
        film_ids=np.array([f"film{row // 3}" for row in range(40)]),
        lesion_ids=np.array([f"film{row // 3}:lesion1" if row % 2 else "" for row in range(40)]),
        sexes=np.array(["F", "M", ""] * 13 + ["F"]),
        ages=np.arange(-1, 39, dtype=np.int16),
        pathologies=np.array(["benign", ""] * 20),
    )
    with write_dataset(tmp_path / "made", HEADER, table) as writer:
        for row in range(40):
            writer.put(row, made_film(row))
    for name in ("train", "val", "test"):
        expected, found = table.take(table.splits == name), open_dataset(tmp_path / "made").split(name).table
        for column in vars(expected):
            assert np.array_equal(getattr(found, column), getattr(expected, column)), column


def test_a_failed_write_leaves_nothing_and_keeps_the_old_dataset(tmp_path: Path) -> None:
    old = write(tmp_path / "made")

    def fail_midway() -> None:
        with write_dataset(old.path, HEADER, made_table(40)) as writer:
            writer.put(0, made_film(0))
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail_midway()
    assert verify_dataset(old.path).digest == old.digest
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no dataset"):
        write(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("film", [np.zeros((4, 4), np.uint8), np.zeros((SIZE, SIZE), np.float32)])
def test_the_writer_refuses_films_of_another_shape_or_type(tmp_path: Path, film: np.ndarray) -> None:
    with (
        pytest.raises(ValueError, match="expected uint8"),
        write_dataset(tmp_path / "made", HEADER, made_table(4)) as writer,
    ):
        writer.put(0, film)


def test_the_writer_wants_every_row_once(tmp_path: Path) -> None:
    def put(*rows: int) -> None:
        with write_dataset(tmp_path / "made", HEADER, made_table(4)) as writer:
            for row in rows:
                writer.put(row, made_film(row))

    with pytest.raises(ValueError, match="3 of 4 rows were neither"):
        put(0)
    with pytest.raises(ValueError, match="row 0 was put or rejected twice"):
        put(0, 0)


def test_opening_does_not_import_pandas(tmp_path: Path) -> None:
    write(tmp_path / "made")
    code = "import sys; from radflow.data.dataset.reading import open_dataset; open_dataset(sys.argv[1]).split('val'); "
    code += "print('pandas' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "made")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
