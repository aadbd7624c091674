from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_datasets import HEADER, made_film, made_table

from radflow.data.dataset import shards
from radflow.data.dataset.unfinished import unfinished_dataset
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.errors import JobError, UserError

FILMS = 60
TORN, LEFT_OUT = 2, 5


class PowerCut(BaseException):
    """The end of a process, as far as a test of the same process can have it."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 7)


def write(
    path: Path,
    stop_after: int = FILMS,
    cut: type[BaseException] = PowerCut,
    header: DatasetHeader = HEADER,
    origin: str = "",
) -> int:
    """Write a dataset row by row, the settled ones left alone; returns how many were settled already."""
    with write_dataset(path, header, made_table(FILMS), origin) as writer:
        settled = writer.settled
        for row in range(FILMS):
            if row == stop_after:
                raise cut(f"at row {row}")
            if writer.is_settled(row):
                continue
            if row == TORN:
                writer.reject(row, "torn")
            elif row == LEFT_OUT:
                writer.leave_out(row, "no room")
            else:
                writer.put(row, made_film(row))
    return settled


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """Files of the dataset that was never interrupted."""
    assert write(tmp_path / "whole") == 0
    return contents(tmp_path / "whole")


def interrupted(path: Path, after: int = 45) -> Path:
    """Interrupt a write; returns what it leaves behind."""
    with pytest.raises(PowerCut):
        write(path, after)
    assert not path.exists()
    return path.parent / f".{path.name}.partial"


def test_an_interrupted_write_goes_on_after_the_last_whole_shard(tmp_path: Path, whole: dict[str, bytes]) -> None:
    table = made_table(FILMS)
    rows = [np.flatnonzero(table.splits == split) for split in ("train", "val", "test")]
    shards_of_seven = [part[start : start + 7] for part in rows for start in range(0, len(part), 7)]
    for after in (30, 45, 59):
        interrupted(tmp_path / "made", after)
    expected = sum(len(shard) for shard in shards_of_seven if shard.max() < 59)
    assert write(tmp_path / "made") == expected > 40
    assert contents(tmp_path / "made") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "whole"]


def test_another_origin_header_or_table_begins_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    interrupted(tmp_path / "made")
    with pytest.raises(PowerCut):
        write(tmp_path / "made", stop_after=0, origin="other films")
    assert not (tmp_path / ".made.partial").exists()  # nothing of it is whole, and what was there is of other films
    interrupted(tmp_path / "made")
    assert write(tmp_path / "made", header=replace(HEADER, sources={"a.csv": "1" * 64})) == 0
    assert contents(tmp_path / "made").keys() == whole.keys()


def cut_the_journal(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])


def flip_a_bit(folder: Path) -> None:
    shard = min((folder / "dataset").glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def lose_a_shard(folder: Path) -> None:
    next((folder / "dataset").glob("*.arrow")).unlink()


def lose_the_journal(folder: Path) -> None:
    (folder / "journal.jsonl").unlink()


def name_no_shard(partial: Path) -> None:
    journal = partial / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"number": 1,', '"number": 1000,'))


def name_another_shard(partial: Path) -> None:
    journal = partial / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"number": 1,', '"number": 2,'))


def give_infinite_rows(partial: Path) -> None:
    journal = partial / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"number": 1,', '"number": 1e999,'))


@pytest.mark.parametrize(
    "damage",
    [
        *(cut_the_journal, flip_a_bit, lose_a_shard, lose_the_journal),
        *(name_no_shard, name_another_shard, give_infinite_rows),
    ],
)
def test_what_is_damaged_is_made_again(tmp_path: Path, whole: dict[str, bytes], damage: Callable[[Path], None]) -> None:
    folder = interrupted(tmp_path / "made")
    damage(folder)
    settled = write(tmp_path / "made")
    assert (settled == 0) == (damage is lose_the_journal)
    assert contents(tmp_path / "made") == whole


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (UserError, UserError),  # too many films rejected, credentials that were withdrawn
        (JobError, JobError),
        (MemoryError, MemoryError),
        (PermissionError, UserError),
        (partial(OSError, errno.ENOSPC), JobError),  # a disk that is full now has room later
    ],
)
def test_whatever_ends_a_write_whole_shards_stay_and_are_told(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], cut: type[Exception], told: type
) -> None:
    with pytest.raises(told, match="at row 45"):
        write(tmp_path / "made", 45, cut)
    told_last = capsys.readouterr().err
    stay = re.search(r"(\d+) finished shards stay in (\S+); the same command resumes from them", told_last)
    assert stay is not None
    assert len(list(Path(stay[2], "dataset").glob("*.arrow"))) == int(stay[1]) >= 3
    assert write(tmp_path / "made") > 20
    assert contents(tmp_path / "made") == whole


def test_two_processes_do_not_make_the_same_data_set(tmp_path: Path) -> None:
    with (
        unfinished_dataset(tmp_path / ".made.partial", "digest"),
        pytest.raises(UserError, match="another process is making this dataset"),
    ):
        write(tmp_path / "made")


def test_a_settled_row_is_not_put_again(tmp_path: Path) -> None:
    interrupted(tmp_path / "made")
    with (
        pytest.raises(ValueError, match="row 0 was put or rejected twice"),
        write_dataset(tmp_path / "made", HEADER, made_table(FILMS)) as writer,
    ):
        writer.put(0, made_film(0))
