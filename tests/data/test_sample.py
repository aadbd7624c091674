"""The words and defaults by which phantom films are made on first use."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from radflow.data import sample
from radflow.data.dataset.reading import open_dataset
from radflow.data.phantom.mammogram.folder import write_phantom_mammograms
from radflow.data.sample import SampleConfig, make_sample, mammogram_folder
from radflow.errors import UserError


def test_what_is_left_out_follows_from_the_kind_of_film() -> None:
    chest, mammograms = SampleConfig().settled(), SampleConfig(kind="mammograms").settled()
    assert (chest.films, chest.image_size, chest.out) == (6000, 64, "data/sample/films")
    assert (mammograms.films, mammograms.image_size, mammograms.out) == (160, 800, "data/sample/mammograms")
    assert SampleConfig(films=20, out="here").settled().films == 20


def test_the_word_sample_makes_mammograms_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written: list[int] = []

    def write_few(folder: Path, films: int, height: int, seed: int, on_progress: object) -> None:
        written.append(films)
        write_phantom_mammograms(folder, 12, 400, seed, workers=1)

    monkeypatch.setattr(sample, "write_phantom_mammograms", write_few)
    monkeypatch.setattr(sample, "PreprocessConfig", partial(sample.PreprocessConfig, workers=1))
    folder = mammogram_folder("sample")
    assert open_dataset(folder).findings == ("Tumour",)
    assert open_dataset(folder).image_size == 64
    assert mammogram_folder("sample") == folder
    assert written == [160]


@pytest.mark.parametrize(
    ("settings", "word"), [({"films": 5}, "films=5"), ({"kind": "mammograms", "archive": True}, "archive=true")]
)
def test_mistakes(settings: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        SampleConfig(**settings)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        make_sample(SampleConfig(kind="mammograms", out=str(tmp_path)))
