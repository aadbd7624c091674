from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from PIL import Image

from radflow.__main__ import run
from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.preprocess import preprocess
from radflow.data.readers.chestxray14 import FINDINGS
from radflow.plots.overview import rejection_table


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """60 phantoms, of which one is lost and one damaged."""
    write_phantom_films(tmp_path / "films", 60, 64, seed=0, workers=1)
    films = sorted((tmp_path / "films" / "images").iterdir())
    films[3].unlink()
    films[8].write_bytes(films[8].read_bytes()[:1000])
    return preprocess(
        PreprocessConfig(source=str(tmp_path / "films"), out=str(tmp_path / "made"), max_rejected=0.1, workers=1)
    )


def data_show(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["radflow", "data", "show", *arguments])
    with contextlib.suppress(SystemExit):  # with which cyclopts ends what went well
        return run()
    return 0


def test_data_show_prints_the_manifest_and_draws_every_finding(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data_show(monkeypatch, str(dataset.path)) == 0
    printed = capsys.readouterr().out
    for split, counts in dataset.manifest.splits.items():
        (line,) = [line for line in printed.splitlines() if line.split()[:1] == [split]]
        assert [f"{counts.rows:,}", f"{counts.patients:,}"] == line.split()[1:3]
    train = dataset.manifest.splits["train"]
    common = max(train.positives, key=lambda finding: train.positives[finding])
    (line,) = [line for line in printed.splitlines() if line.split()[:1] == [common]]
    assert f"{train.positives[common]} ({train.positives[common] / train.rows:.2%})" in " ".join(line.split())
    assert "2 rejected" in printed

    pictures = dataset.path.with_name("made-figures")
    names = {path.stem for path in (pictures / "contact_sheets").glob("*.png")}
    found = {name for counts in dataset.manifest.splits.values() for name, films in counts.positives.items() if films}
    assert names == {*found, "No_Finding"}
    assert names <= {*FINDINGS, "No_Finding"}
    assert {path.stem for path in pictures.glob("*.png")} == {"frequencies", "prevalence", "co_occurrence"}
    for path in pictures.rglob("*.png"):
        with Image.open(path) as picture:
            assert 990 <= picture.width <= 1000


def test_a_flipped_bit_is_one_line_that_names_the_shard(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shard = dataset.path / dataset.manifest.shards[-1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert data_show(monkeypatch, str(dataset.path), f"--out={tmp_path / 'figures'}") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        f"error: file {shard} is damaged: its SHA-256 differs from the manifest; copy it again"
    ]
    assert not (tmp_path / "figures").exists()


def test_reasons_that_differ_in_numbers_only_are_one(dataset: Dataset) -> None:
    lines = ["image_id,reason", "a,truncated: it ends after 7", "b,gone", "c,truncated: it ends after 8",
             "d,patient 12 is on both lists", "e,patient 1 is on both lists", "f,truncated: so"]  # fmt: skip
    (dataset.path / "rejected.csv").write_text("\n".join(lines) + "\n")
    assert rejection_table(dataset).to_numpy().tolist() == [
        ["truncated", 3, "a"],
        ["patient ... is on both lists", 2, "d"],
        ["gone", 1, "b"],
    ]
    (dataset.path / "rejected.csv").write_text("image_id,reason\n")
    assert rejection_table(dataset).empty
