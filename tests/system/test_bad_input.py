"""Mistakes of a user: one line that says what was given and how to fix it, exit code 2, nothing half-written."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import h5py
import pandas as pd
import pytest
from commands import Command, runs_of

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def films(workplace: Path, tmp_path: Path) -> Path:
    """A release of its own for a test to spoil."""
    return Path(shutil.copytree(workplace / "films", tmp_path / "films"))


def assert_mistake(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 2, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in errors[0]


def preprocess(command: Command, films: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return command("preprocess", f"--source={films}", f"--out={films.parent / 'out'}", "--image_size=32", *flags)


def test_a_missing_folder(command: Command, tmp_path: Path) -> None:
    assert_mistake(preprocess(command, tmp_path / "nowhere"), "nowhere")
    assert_mistake(command("train", "--data=nowhere"), "nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line",
    [
        ["preprocess", "--source=nowhere"],
        ["predict", "--input=nowhere"],
        ["train", "--data=nowhere"],
        ["train", "--weights=nowhere.keras"],
        ["search", "--space=nowhere.yaml"],
        ["promote", "--policy=nowhere.yaml"],
        ["promote", "--card=nowhere.md", f"--policy={PROJECT / 'registry' / 'policy.yaml'}"],
    ],
)
def test_what_is_missing_is_told_with_the_place_where_it_was_looked_for(
    command: Command, workplace: Path, line: list[str]
) -> None:
    """`mlflow run` starts in the project's folder, wherever it was typed."""
    assert_mistake(command(*line), str(workplace / line[1].partition("=")[2]))


def test_an_empty_label_file(command: Command, films: Path) -> None:
    (films / "Data_Entry_2017.csv").write_text("")
    assert_mistake(preprocess(command, films), "Data_Entry_2017.csv")


def test_an_unknown_finding(command: Command, films: Path) -> None:
    label_file = films / "Data_Entry_2017.csv"
    label_file.write_text(label_file.read_text().replace("Infiltration", "Infiltrations", 1))
    assert_mistake(preprocess(command, films), "Infiltrations")


def test_films_that_a_list_names_but_the_folder_lacks(command: Command, films: Path) -> None:
    for name in (films / "test_list.txt").read_text().split()[:5]:
        (films / "images" / name).unlink()
    assert_mistake(preprocess(command, films), "at least 3 of 240", "max_rejected=0.01")
    assert not (films.parent / "out").exists()


def test_a_truncated_film_is_rejected_and_the_rest_go_on(command: Command, films: Path) -> None:
    film = sorted((films / "images").iterdir())[3]
    film.write_bytes(film.read_bytes()[:200])
    preprocess(command, films).check_returncode()
    rejected = pd.read_csv(films.parent / "out" / "rejected.csv")
    assert list(rejected["image_id"]) == [film.name]
    assert "truncated" in rejected["reason"][0]


def test_a_film_of_a_hundred_megapixels_is_rejected_undecoded(command: Command, films: Path) -> None:
    film = sorted((films / "images").iterdir())[3]
    film.write_bytes(bomb(10_000))
    preprocess(command, films).check_returncode()
    rejected = pd.read_csv(films.parent / "out" / "rejected.csv")
    assert list(rejected["image_id"]) == [film.name]
    assert "10000x10000" in rejected["reason"][0]


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels that is a few kilobytes long."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_global_batch_that_does_not_divide(command: Command) -> None:
    ended = command("distributed", "--data=dataset", "--gbz=101", "--lbz=16", "--np=2")
    assert_mistake(ended, "gbz=101", "100 or 102")


def test_more_ranks_than_slots(command: Command) -> None:
    ended = command("distributed", "--data=dataset", "--np=5", "--hosts=node1:2,node2:2", "--gbz=80")
    assert_mistake(ended, "np=5", "node1:2")


def test_weights_that_cannot_be_read(command: Command, tmp_path: Path) -> None:
    weights = tmp_path / "vgg16.weights.h5"
    weights.write_bytes(b"not HDF5")
    for entry in ("train", "distributed"):
        assert_mistake(command(entry, "--data=dataset", "--arch=vgg16", f"--weights={weights}"), "vgg16.weights.h5")
    assert_mistake(command("train", "--data=dataset", "--weights=nowhere.h5"), "weights=nowhere.h5")


@pytest.mark.long
def test_weights_of_another_architecture_end_all_ranks_with_one_line(command: Command, workplace: Path) -> None:
    with h5py.File(workplace / "empty.weights.h5", "w"):
        pass
    ended = command("distributed", "--data=dataset", "--arch=vgg16", "--weights=empty.weights.h5")
    assert_mistake(ended, "empty.weights.h5", "vgg16")
    assert runs_of(workplace)[0].info.status == "FAILED"
    assert "empty.weights.h5" in runs_of(workplace)[0].data.tags["radflow.failure"]


def test_a_tracking_server_that_does_not_answer(command: Command) -> None:
    ended = command("train", "--data=dataset", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert_mistake(ended, "http://127.0.0.1:9", "MLFLOW_TRACKING_URI")


@pytest.fixture(autouse=True, scope="module")
def old_policy(workplace: Path) -> None:
    (workplace / "old.yaml").write_text("radflow-chest-vgg16: {arch: vgg16, metric: test/auc/mean, minimum: 0.55}\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["train", "--epochs=three"], ["--epochs", "three"]),
        (["train", "--ebochs=3"], ["--ebochs"]),
        (["train", "--arch=vgg16", "--norm=group"], ["norm=group", "vgg16"]),
        (["train", "--base_batch=16"], ["base_batch=16", "base_lr=auto"]),
        (["distributed", "--gbz=0"], ["gbz=0", "at least 1"]),
        (["distributed", "--gbz=512", "--gbz_schedule=1024:2"], ["gbz_schedule=1024:2", "gbz=512"]),
        (["predict", "--output=table.xlsx"], ["table.xlsx", ".csv or .parquet"]),
        (["predict", "--model=models:/nobody@champion", "--input=films"], ["nobody", "promote"]),
        (["evaluate", "--model=models:/nobody@champion", "--data=dataset"], ["nobody", "promote"]),
        (["evaluate", "--split=train"], ["--split", '"val", "test"', '"all"']),
        (["train", "--data=dataset", "--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["promote", "--policy=old.yaml"], ["old.yaml", "no key 'version'", "version: 2"]),
        (["promote", "--rollback=true", "--run=0123"], ["rollback=true", "neither run nor data"]),
    ],
)
def test_wrong_flags(command: Command, flags: list[str], words: list[str]) -> None:
    assert_mistake(command(*flags), *words)
