"""Phantom mammograms: read as CBIS-DDSM is, repeatable, and with lesions that are where their masks say."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radflow.data.config import PreprocessConfig
from radflow.data.crops.lesions import CropConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import prove_no_lesion_crosses, prove_no_patient_crosses
from radflow.data.phantom.mammogram.breast import CONTRASTS, EXTENTS, PhantomLesion, draw_mammogram
from radflow.data.phantom.mammogram.folder import draw_cases, write_phantom_mammograms
from radflow.data.preprocess import preprocess
from radflow.data.readers.cbis_ddsm import CbisDdsm
from radflow.errors import UserError

FILMS, HEIGHT = 24, 400


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "mammograms"
    write_phantom_mammograms(folder, FILMS, HEIGHT, seed=1, workers=1)
    return folder


@pytest.fixture(scope="module")
def crops(release: Path) -> Dataset:
    config = PreprocessConfig(source=str(release), out=str(release.parent / "crops"), image_size=32, workers=1,
                              crops=CropConfig(crop_size=64))  # fmt: skip
    return preprocess(config)


def content_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_preprocess_reads_them_as_the_real_set(crops: Dataset):
    assert crops.name == "phantom_mammograms"
    assert crops.manifest.rejected == 0
    lesions = sum(len(case.lesions) for case in draw_cases(FILMS, 1))
    splits = [crops.split(name) for name in ("train", "val", "test")]
    assert sum(int(split.labels.sum()) for split in splits) == 3 * lesions
    assert sum(int((~split.labels).sum()) for split in splits) > 2 * FILMS
    with (crops.path / "lesions.csv").open() as file:
        assert {row["reason"] for row in csv.DictReader(file)} == {""}


def test_no_patient_and_no_crop_of_a_lesion_crosses_a_split(crops: Dataset):
    splits = [crops.split(name) for name in ("train", "val", "test")]
    names = np.concatenate([np.full(len(split), split.name) for split in splits])
    tables = FilmTable.concatenate([split.table for split in splits])
    prove_no_patient_crosses(np.concatenate([split.patient_ids for split in splits]), names)
    prove_no_lesion_crosses(tables.lesion_ids, names)
    shown = tables.take(tables.labels[:, 0])
    _, counts = np.unique(shown.lesion_ids, return_counts=True)
    assert set(counts.tolist()) == {3}
    assert len(set(shown.film_ids.tolist())) == FILMS


def test_same_seed_same_bytes_whatever_the_workers(release: Path, tmp_path: Path):
    write_phantom_mammograms(tmp_path / "again", FILMS, HEIGHT, seed=1, workers=2)
    assert content_of(tmp_path / "again") == content_of(release)


def test_another_seed_other_films():
    assert draw_cases(20, 0) != draw_cases(20, 1)


def test_masks_are_where_the_film_is_brighter():
    """The same film with and without the lesion differs inside the mask, and hardly elsewhere."""
    for kind in ("mass", "calcification"):
        lesion = PhantomLesion(kind, False, EXTENTS[kind][1], CONTRASTS[kind][1], 0)
        film, (mask,) = draw_mammogram((lesion,), HEIGHT, (5, 1), "CC", is_right=False)
        faint, _ = draw_mammogram((PhantomLesion(kind, False, lesion.extent, 0.0, 0),), HEIGHT, (5, 1), "CC", False)
        added = film - faint
        assert added[mask].sum() > 0.9 * added.sum() > 0
        assert np.pi * (HEIGHT * lesion.extent) ** 2 == pytest.approx(mask.sum(), rel=0.3)


def test_right_breasts_lie_at_the_right_edge():
    lesion = PhantomLesion("mass", True, 0.03, 0.2, 0)
    left, (left_mask,) = draw_mammogram((lesion,), HEIGHT, (5, 1), "MLO", is_right=False)
    right, (right_mask,) = draw_mammogram((lesion,), HEIGHT, (5, 1), "MLO", is_right=True)
    np.testing.assert_array_equal(left, right[:, ::-1])
    np.testing.assert_array_equal(left_mask, right_mask[:, ::-1])


def test_brightness_alone_does_not_tell_tumours(crops: Dataset):
    """A model has to learn shapes: neither the mean nor the brightest pixel of a crop comes near to the answer."""
    train = crops.split("train")
    films = train.gather(np.arange(len(train))).reshape(len(train), -1).astype(float)
    for measure in (films.mean(axis=1), films.max(axis=1), films.std(axis=1)):
        assert 0.2 < roc_auc_score(train.labels[:, 0], measure) < 0.85


def test_all_conspicuities_and_both_kinds_are_drawn():
    lesions = [lesion for case in draw_cases(300, 0) for lesion in case.lesions]
    assert {(lesion.kind, lesion.is_malignant) for lesion in lesions} == {
        (kind, malignant) for kind in ("mass", "calcification") for malignant in (True, False)
    }
    assert {lesion.subtlety for lesion in lesions} == {1, 2, 3, 4, 5}


def test_the_csvs_have_the_columns_of_the_real_ones(release: Path, real_data: Path):
    for path in release.glob("*.csv"):
        real = real_data / "mammo" / "cbis_ddsm" / "csv" / path.name
        assert path.read_text().splitlines()[0] == real.read_text().splitlines()[0]
    assert len(CbisDdsm.at(release).label_paths) == 4


@pytest.mark.parametrize(
    ("films", "height", "seed", "word"),
    [(5, 400, 0, "films=5"), (20, 100, 0, "image_size=100"), (20, 400, -1, "seed=-1")],
)
def test_mistakes(tmp_path: Path, films: int, height: int, seed: int, word: str):
    with pytest.raises(UserError, match=word):
        write_phantom_mammograms(tmp_path / "set", films, height, seed)
    assert not (tmp_path / "set").exists()
