"""The contract of readers: a dataset that only this file knows, and what follows from the list of readers."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args, get_type_hints

import numpy as np
import pytest
from nih_folder import png_bytes

from radflow.data import preprocess as preprocessing
from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.decoding import StoredFilm
from radflow.data.images.film import read_film
from radflow.data.preprocess import preprocess
from radflow.data.readers import READERS
from radflow.data.readers.base import Image, ReleasePlan, Request
from radflow.data.readers.boxes import FindingBox, read_boxes
from radflow.data.readers.csv_table import CsvTable
from radflow.data.readers.film_lists import ListConfig
from radflow.data.readers.vindr_cxr import VinDrCxr
from radflow.data.tables import read_rows
from radflow.data.tasks import OTHER, ImageUnit, is_task
from radflow.errors import UserError

LABEL_FILE = "hands.csv"


@dataclass(frozen=True)
class Hands:
    """Films of hands with two findings, each present, absent or unknown (-1)."""

    layout: ClassVar[str] = "hands"
    title: ClassVar[str] = "Hands"
    looks_for: ClassVar[str] = LABEL_FILE
    findings: ClassVar[tuple[str, ...]] = ("Fracture", "Erosion")
    task: ClassVar[str] = OTHER
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "squash"
    image_size: ClassVar[int] = 40
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random")

    folder: Path
    name: str = layout

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / LABEL_FILE).is_file()

    @classmethod
    def at(cls, source: str | Path) -> Hands:
        return cls(Path(source))

    def plan(self, request: Request) -> ReleasePlan:
        cells = [cells for _, cells in read_rows(self.folder / LABEL_FILE, (*self.findings, "film", "patient", "part"))]
        *labels, films, patients, parts = (np.array(column) for column in zip(*cells, strict=True))
        splits = request.divide(patients, parts == "test")
        marks = np.stack(labels, axis=1)

        def read(is_awaited: Callable[[str], bool]) -> Iterator[Image]:
            return (StoredFilm(name, self.folder / name) for name in films.tolist() if is_awaited(name))

        return ReleasePlan(
            table=FilmTable(
                films,
                patients,
                np.full(len(films), "PA"),
                splits,
                marks == "1",
                known=np.isin(marks, ("0", "1")),
                uncertain=marks == "-1",
            ),
            sources={LABEL_FILE: self.folder / LABEL_FILE},
            images=read,
            boxes=[FindingBox(films[0], "Fracture", 1, 2, 3, 4)],
        )


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen films of eight patients, the last two of the test part; film 3 has an unknown finding."""
    monkeypatch.setattr(preprocessing, "READERS", (*READERS, Hands))
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [
        f"{n}.png,{n // 2},{n % 2},{-1 if n == 3 else n % 3 // 2},{'test' if n > 11 else 'train'}" for n in range(16)
    ]
    (folder / LABEL_FILE).write_text("\n".join(["film,patient,Fracture,Erosion,part", *rows]))
    random = np.random.default_rng(0)
    for number in range(16):
        (folder / f"{number}.png").write_bytes(png_bytes(random.integers(0, 256, (50, 50), np.uint8)))
    return folder


def run(source: Path, **settings: object) -> Dataset:
    return preprocess(PreprocessConfig(source=str(source), out=str(source.parent / "out"), workers=1, **settings))


def test_a_data_set_is_its_reader_and_nothing_more(source: Path) -> None:
    dataset = run(source)
    manifest = dataset.manifest
    assert (manifest.name, manifest.findings, manifest.task, manifest.unit) == ("hands", Hands.findings, OTHER, "films")
    assert (manifest.image_size, manifest.split_rule.rule, set(manifest.sources)) == (40, "official", {LABEL_FILE})
    test = dataset.split("test")
    assert test.image_ids.tolist() == [f"{number}.png" for number in range(12, 16)]
    assert test.labels.tolist() == [[number % 2 == 1, number % 3 == 2] for number in range(12, 16)]
    expected = read_film((source / "12.png").read_bytes(), "12.png", 40, "squash")
    assert np.array_equal(test.gather(np.array([0]))[0], expected)
    assert read_boxes(dataset) == [FindingBox("0.png", "Fracture", 1, 2, 3, 4)]


def test_a_finding_that_is_not_known_is_neither_present_nor_absent(source: Path) -> None:
    dataset = run(source, split="random")
    (split,) = (name for name in ("train", "val", "test") if "3.png" in dataset.split(name).image_ids)
    table = dataset.split(split).table
    row = table.image_ids.tolist().index("3.png")
    planes = (table.labels[row], table.known[row], table.uncertain[row])
    assert [plane.tolist() for plane in planes] == [[True, False], [True, False], [False, True]]
    assert dataset.manifest.splits[split].unknown == {"Fracture": 0, "Erosion": 1}
    assert dataset.manifest.splits[split].uncertain == {"Fracture": 0, "Erosion": 1}


def test_a_film_of_which_nothing_is_known_is_left_out(source: Path) -> None:
    labels = source / LABEL_FILE
    labels.write_text(labels.read_text().replace("3.png,1,1,-1", "3.png,1,,"))
    dataset = run(source, split="random")
    assert (dataset.manifest.rows, dataset.manifest.rejected, dataset.manifest.unlisted) == (15, 0, 1)
    with (dataset.path / "rejected.csv").open() as file:
        reason = "the release does not say whether it shows any of the findings"
        assert list(csv.reader(file))[1:] == [["3.png", reason]]


def test_the_layouts_are_those_of_the_readers() -> None:
    assert get_args(get_type_hints(PreprocessConfig)["layout"]) == ("auto", *(reader.layout for reader in READERS))


def test_readers_keep_to_the_contract() -> None:
    assert len({reader.layout for reader in READERS}) == len(READERS)
    for reader in READERS:
        assert is_task(reader.task)
        assert reader.units
        assert set(reader.units) <= set(get_args(ImageUnit))
        assert set(reader.split_rules) <= {"official", "random", "lists"}
        assert len(set(reader.findings)) == len(reader.findings)
        assert reader.findings or reader in (CsvTable, VinDrCxr)  # whose tables name them


def test_a_folder_that_no_reader_knows_is_told_what_each_looks_for(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(UserError) as told:
        run(tmp_path)
    said = str(told.value)
    assert said.startswith(
        f"no label file in {tmp_path}; its notes.csv has the columns of none, expected one of Data_Entry"
    )
    assert said.endswith("; put the release's list beside the films")
    for reader in READERS:
        assert f"{reader.looks_for} ({reader.title})" in said


def test_a_release_that_is_not_divided_is_divided_at_random(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hands, "split_rules", ("random",))
    assert run(source).manifest.split_rule.rule == "random"
    with pytest.raises(UserError, match="split=lists of hands is out of range: expected random"):
        run(source, split="lists", lists=ListConfig(train_list="a", test_list="b"))


def test_the_documentation_has_a_row_for_each_layout() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)) - {"layout"} == {
        reader.layout for reader in READERS
    }
