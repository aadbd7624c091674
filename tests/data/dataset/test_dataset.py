from __future__ import annotations

import csv
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
from small_datasets import FINDINGS, HEADER, SIZE, made_film, made_table, write

from radflow.data.dataset import shards
from radflow.data.dataset.reading import open_dataset, verify_dataset
from radflow.data.dataset.writing import write_dataset
from radflow.errors import UserError


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
def test_labels_that_are_not_known_are_read_back_as_such(tmp_path: Path) -> None:
    made, random = made_table(40), np.random.default_rng(0)
    known = random.random(made.labels.shape) < 0.7
    uncertain = ~known & (random.random(made.labels.shape) < 0.5)
    table = replace(made, labels=made.labels & known, known=known, uncertain=uncertain)
    with write_dataset(tmp_path / "made", HEADER, table) as writer:
        for row in range(40):
            writer.put(row, made_film(row))
    dataset = verify_dataset(tmp_path / "made")
    for name in ("train", "val", "test"):
        rows = np.flatnonzero(table.splits == name)
        read, counts = dataset.split(name).table, dataset.manifest.splits[name]
        for plane in shards.FLAGS:
            assert np.array_equal(getattr(read, plane), getattr(table, plane)[rows]), plane
        assert counts.unknown == dict(zip(FINDINGS, (~known[rows]).sum(axis=0).tolist(), strict=True))
        assert counts.uncertain == dict(zip(FINDINGS, uncertain[rows].sum(axis=0).tolist(), strict=True))
        assert counts.no_finding == sum(not label.any() and all(said) for label, said in
                                        zip(table.labels[rows], known[rows], strict=True))  # fmt: skip
        column = ipc.open_file(pa.memory_map(str(tmp_path / "made" / f"{name}-00000.arrow"))).read_all()["labels"]
        first = [
            None if not said else bool(label) for label, said in zip(table.labels[rows[0]], known[rows[0]], strict=True)
        ]
        assert column[0].as_py() == first


def test_a_dataset_whose_labels_are_all_known_says_nothing_of_unknown_ones(tmp_path: Path) -> None:
    dataset = write(tmp_path / "made")
    assert "known" not in (dataset.path / "manifest.json").read_text()
    assert "uncertain" not in ipc.open_file(pa.memory_map(str(dataset.path / "train-00000.arrow"))).schema.names


def test_a_finding_cannot_be_present_and_not_known() -> None:
    made = made_table(4)
    with pytest.raises(ValueError, match="present and not known"):
        replace(made, known=np.zeros(made.labels.shape, bool))


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
    with pytest.raises(UserError, match="exists and is not a dataset"):
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
