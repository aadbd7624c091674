from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from radflow.data.phantom.chest.anatomy import Anatomy, draw_chest, place_chest
from radflow.data.phantom.chest.films import render_films
from radflow.data.phantom.chest.findings import remodel_cardiomegaly
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.phantom.chest.hospitals import HOSPITALS
from radflow.data.phantom.chest.labels import COMBINATIONS, RAISED, combination_shares, phantom_prevalences
from radflow.data.phantom.chest.patients import FILMS_PER_PATIENT, draw_patients, split_patients
from radflow.data.phantom.drawing import Chance
from radflow.data.readers.chestxray14 import FINDINGS, NO_FINDING, ChestXray14
from radflow.errors import UserError

RELEASED_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
SMALL_SET = 160
FILMS_PER_FINDING = 24


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    write_phantom_films(folder, films=SMALL_SET, image_size=64, seed=5, workers=1)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_finding(finding: str | None, count: int = FILMS_PER_FINDING) -> np.ndarray:
    labels = np.zeros((count, len(FINDINGS)), bool)
    if finding is not None:
        labels[:, FINDINGS.index(finding)] = True
    return labels


@cache
def films_with(finding: str | None) -> np.ndarray:
    return render_films(with_finding(finding), 64, seed=11).astype(int)


def changes(finding: str) -> np.ndarray:
    """What the finding adds to the films of the same patients in the same position, in grey levels."""
    return films_with(finding) - films_with(None)


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, small_set: Path) -> None:
    counts: list[int] = []
    write_phantom_films(tmp_path / "two", SMALL_SET, 64, seed=5, workers=2, on_progress=counts.append)
    assert files_of(tmp_path / "two") == files_of(small_set)
    assert counts == sorted(counts)
    assert len(counts) > 1, "one task alone would not try the pool"
    assert counts[-1] == SMALL_SET


def test_another_seed_gives_other_films(small_set: Path, tmp_path: Path) -> None:
    write_phantom_films(tmp_path / "other", 20, 64, seed=6, workers=1)
    name = "images/00000001_000.png"
    assert (tmp_path / "other" / name).read_bytes() != (small_set / name).read_bytes()


def test_the_set_has_the_layout_of_the_release(small_set: Path) -> None:
    table = pd.read_csv(small_set / "Data_Entry_2017.csv")
    assert (small_set / "Data_Entry_2017.csv").read_text().splitlines()[0] == RELEASED_HEADER
    assert sorted(path.name for path in (small_set / "images").iterdir()) == sorted(table["Image Index"])
    names = table["Patient ID"].map("{:08d}".format) + "_" + table["Follow-up #"].map("{:03d}.png".format)
    assert (names == table["Image Index"]).all()
    assert set(table["Finding Labels"].str.split("|").explode()) <= {*FINDINGS, NO_FINDING}
    assert set(table["View Position"]) == {"PA", "AP"}
    assert set(table["Patient Gender"]) == {"M", "F"}
    assert table["Patient Age"].between(0, 95).all()
    assert not table.groupby("Patient ID")["Patient Gender"].apply(set).map(len).gt(1).any()
    with Image.open(small_set / "images" / table["Image Index"][0]) as film:
        assert (film.format, film.mode, film.size) == ("PNG", "L", (64, 64))


def test_phantoms_are_never_taken_for_patients(small_set: Path) -> None:
    assert ChestXray14.at(small_set).name == "phantoms"
    (small_set / "PHANTOMS.txt").rename(small_set / "moved")
    try:
        assert ChestXray14.at(small_set).name == "chestxray14"
    finally:
        (small_set / "moved").rename(small_set / "PHANTOMS.txt")


def test_the_lists_share_no_patient_and_hold_every_film(small_set: Path) -> None:
    train = (small_set / "train_val_list.txt").read_text().split()
    test = (small_set / "test_list.txt").read_text().split()
    assert sorted(train + test) == sorted(path.name for path in (small_set / "images").iterdir())
    assert not {name[:8] for name in train} & {name[:8] for name in test}


@settings(max_examples=40, deadline=None)
@given(films=st.integers(2, 600), seed=st.integers(0, 2**32))
def test_any_number_of_films_is_met_and_split_by_patient(films: int, seed: int) -> None:
    rows = draw_patients(films, seed)
    assert len({row.name for row in rows}) == films
    test = split_patients(rows, seed)
    share = sum(row.patient in test for row in rows) / films
    assert 0 < share < 1
    # A tenth of the set is the most that one patient has, so the share falls short of the release's by less than that.
    assert films < 40 or 0.12 < share <= 0.2283


def test_films_per_patient_follow_the_release() -> None:
    rows = draw_patients(20_000, seed=1)
    counts = pd.Series([row.patient for row in rows]).value_counts()
    assert (counts == 1).mean() == pytest.approx(17_503 / 30_805, abs=0.02)
    assert counts.mean() == pytest.approx(112_120 / 30_805, rel=0.12)


def test_prevalence_and_co_occurrence_are_a_sample_of_the_table() -> None:
    drawn = pd.Series([row.combination for row in draw_patients(20_000, seed=2)])
    shares = drawn.value_counts(normalize=True)
    for (combination, *_), expected in zip(COMBINATIONS, combination_shares(), strict=True):
        # Repeated labels make the spread somewhat wider than that of independent films.
        spread = 1.3 * np.sqrt(expected * (1 - expected) / len(drawn))
        assert shares.get(combination, 0.0) == pytest.approx(expected, abs=4.5 * spread), combination


def test_a_few_thousand_films_hold_a_hundred_of_each_finding() -> None:
    assert min(phantom_prevalences().values()) > 0.04


def test_the_table_counts_the_released_label_file(real_data: Path) -> None:
    with gzip.open(real_data / "nih_labels_full" / "Data_Entry_2017_v2020.csv.gz", "rt") as file:
        released = pd.read_csv(file, keep_default_na=False)
    films = released["Finding Labels"].value_counts()
    portable = released.loc[released["View Position"] == "AP", "Finding Labels"].value_counts()
    for combination, counted, counted_portable in COMBINATIONS:
        assert counted == films[combination]
        assert counted_portable == portable.get(combination, 0)
    assert set(films.index[films >= 40]) <= {combination for combination, *_ in COMBINATIONS}
    per_patient = released["Patient ID"].value_counts().value_counts()
    assert [patients for films, patients in FILMS_PER_PATIENT if films <= 8] == [per_patient[n] for n in range(1, 9)]
    assert sum(patients for _, patients in FILMS_PER_PATIENT) == released["Patient ID"].nunique()
    assert set(RAISED) <= set(FINDINGS)


def test_the_sicker_the_patient_the_likelier_a_portable_film() -> None:
    rows = draw_patients(8_000, seed=3)
    portable = pd.Series([row.portable for row in rows]).groupby([row.combination for row in rows]).mean()
    assert portable["Edema"] > 0.7 > 0.5 > portable["No Finding"] > portable["Hernia"]


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_shows_at_64_pixels_and_stays_within_the_chest(finding: str) -> None:
    changed = np.abs(changes(finding)) > 12
    assert (changed.sum(axis=(1, 2)) >= 4).mean() > 0.9
    assert changed.mean() < 0.45
    border = np.ones((64, 64), bool)
    border[3:-3, 3:-3] = False
    assert changed[:, border].mean() < 0.12


def test_cardiomegaly_widens_the_heart_beyond_half_of_the_chest() -> None:
    normal, enlarged = cardiothoracic_ratios(lambda *_: None), cardiothoracic_ratios(remodel_cardiomegaly)
    assert np.median(normal) < 0.48
    assert np.median(enlarged) > 0.5
    assert (enlarged > normal + 0.03).mean() > 0.9


def cardiothoracic_ratios(remodel: Callable[[Anatomy, Chance], None]) -> np.ndarray:
    """Widest heart over widest chest, measured on the drawn chests before exposure and noise."""
    films, size = 24, 128
    nobody = np.zeros((films, 1, 1), np.float32)
    anatomy = Anatomy.draw(Chance([(1, film) for film in range(films)]), nobody)
    remodel(anatomy, Chance([(2, film) for film in range(films)]))
    chance = Chance([(3, film) for film in range(films)])
    chest = place_chest(anatomy, nobody, chance, size)
    picture = ndimage.gaussian_filter(draw_chest(chest, nobody, chance), (0, 1, 1))
    ratios = []
    for film in range(films):
        spine = np.abs(chest.u[film]).argmin(axis=1)
        rows = [row for row in range(size) if 0.0 < chest.v[film, row, spine[row]] < 0.25]
        widths = [bright_run(picture[film, row] > 0.56, spine[row]) for row in rows]
        ratios.append(max(widths) / np.ptp(np.flatnonzero((chest.lateral[film] > 0).any(axis=0))))
    return np.array(ratios)


def bright_run(bright: np.ndarray, middle: int) -> int:
    runs, _ = ndimage.label(bright)
    return int((runs == runs[middle]).sum()) if bright[middle] else 0


def centre_of(change: np.ndarray) -> tuple[float, float]:
    """Centre of gravity of a change over all films, as (down, across) from -1 to 1."""
    down, across = ndimage.center_of_mass(np.abs(change).sum(axis=0))
    return 2 * down / change.shape[1] - 1, 2 * across / change.shape[2] - 1


def test_effusion_brightens_the_lower_lateral_lung() -> None:
    change = changes("Effusion")
    assert change[:, 32:, :].sum() > 0.9 * np.abs(change).sum()
    lateral = np.abs(np.linspace(-1, 1, 64)) > 0.35
    assert change[:, :, lateral].sum() > 0.6 * change.sum()


def test_pneumothorax_darkens_one_lung_along_its_wall() -> None:
    change = changes("Pneumothorax")
    darker = np.minimum(change, 0).sum(axis=1)
    right, left = darker[:, :32].sum(axis=1), darker[:, 32:].sum(axis=1)
    one_sided = np.minimum(np.abs(right), np.abs(left)) / np.maximum(np.abs(right), np.abs(left))
    assert np.median(one_sided) < 0.2
    assert -darker.sum() > 2 * np.maximum(change, 0).sum()


def test_a_mass_is_larger_than_a_nodule_and_both_are_bright() -> None:
    nodule, mass = changes("Nodule"), changes("Mass")
    assert nodule[np.abs(nodule) > 12].min() > 0
    assert np.median([largest_spot(film) for film in mass]) > 2.5 * np.median([largest_spot(film) for film in nodule])


def largest_spot(change: np.ndarray) -> int:
    spots, _ = ndimage.label(change > 12)
    return int(np.bincount(spots.ravel())[1:].max())


def test_edema_clouds_both_lungs() -> None:
    change = changes("Edema").clip(0)
    right, left = change[:, :, :32].sum(axis=(1, 2)), change[:, :, 32:].sum(axis=(1, 2))
    assert (np.minimum(right, left) / np.maximum(right, left) > 0.25).mean() > 0.8


def test_emphysema_darkens_the_lungs() -> None:
    change = changes("Emphysema")
    assert (change.sum(axis=(1, 2)) < 0).mean() > 0.9


def test_fibrosis_adds_finer_structure_than_pneumonia() -> None:
    fine, coarse = (
        np.mean(
            [
                np.abs(film - ndimage.gaussian_filter(film.astype(float), 1.5)).sum() / np.abs(film).sum()
                for film in change
            ]
        )
        for change in (changes("Fibrosis"), changes("Pneumonia"))
    )
    assert fine > 1.5 * coarse


def test_hernia_lies_behind_the_heart() -> None:
    down, across = centre_of(changes("Hernia"))
    assert 0 < down < 0.6
    assert abs(across) < 0.2


def test_pleural_thickening_lies_along_the_wall() -> None:
    change = changes("Pleural_Thickening").clip(0).sum(axis=(0, 1))
    lateral = np.abs(np.linspace(-1, 1, 64)) > 0.4
    assert change[lateral].sum() > 0.75 * change.sum()


def test_a_film_is_the_same_alone_and_among_others() -> None:
    labels = np.eye(len(FINDINGS), dtype=bool)
    together = render_films(labels, 64, seed=4)
    alone = render_films(labels[9:10], 64, seed=4, patients=[10])
    np.testing.assert_array_equal(together[9:10], alone)


def test_a_film_looks_the_same_at_any_size() -> None:
    labels = np.eye(len(FINDINGS), dtype=bool)
    large = render_films(labels, 256, seed=4).reshape(-1, 64, 4, 64, 4).mean(axis=(2, 4))
    small = render_films(labels, 64, seed=4)
    for one, other in zip(large, small, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97


def test_a_linear_model_of_the_pixels_stays_below_three_quarters() -> None:
    rows = draw_patients(800, seed=8)
    labels = np.array([row.labels for row in rows])
    films = render_films(labels, 64, seed=8, portable=[row.portable for row in rows])
    pixels = films.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(len(rows), -1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300, tol=1e-3))
    areas = []
    for labelled in labels.T:
        model.fit(pixels[:600], labelled[:600])
        areas.append(roc_auc_score(labelled[600:], model.decision_function(pixels[600:])))
    assert 0.55 < np.mean(areas) < 0.75


def test_an_archive_holds_the_same_films_as_the_folder(tmp_path: Path, small_set: Path) -> None:
    write_phantom_films(tmp_path / "packed", SMALL_SET, 64, seed=5, archive=True, workers=1)
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == [
        "Data_Entry_2017.csv",
        "PHANTOMS.txt",
        "images_001.tar.gz",
        "test_list.txt",
        "train_val_list.txt",
    ]
    with tarfile.open(tmp_path / "packed" / "images_001.tar.gz") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    assert members == {name: content for name, content in files_of(small_set).items() if name.startswith("images/")}


@pytest.mark.parametrize("size", [63, 1025, 0])
def test_sizes_out_of_range_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"image size is {size}; .* 64 to 1024"):
        write_phantom_films(tmp_path / "set", 20, size, seed=0)
    assert not (tmp_path / "set").exists()


def test_the_largest_size_is_drawn() -> None:
    assert render_films(with_finding("Nodule", 1), 1024, seed=0).shape == (1, 1024, 1024)


def test_other_orders_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="films is 1"):
        write_phantom_films(tmp_path / "set", 1, 64, seed=0)
    with pytest.raises(UserError, match="seed=-1"):
        write_phantom_films(tmp_path / "set", 20, 64, seed=-1)
    with pytest.raises(UserError, match="workers=0"):
        write_phantom_films(tmp_path / "set", 20, 64, seed=0, workers=0)
    with pytest.raises(UserError, match=r"labels have shape \(3,\)"):
        render_films([True, False, True], 64, seed=0)


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"real")
    with pytest.raises(UserError, match="is there already"):
        write_phantom_films(tmp_path, 20, 64, seed=0)
    assert files_of(tmp_path) == {"film.png": b"real"}


def test_a_second_hospital_has_darker_noisier_films_more_portable_and_sicker_patients(tmp_path: Path) -> None:
    """The first is unchanged by there being a second: its bytes are held by the tests above."""
    first, second = (draw_patients(8_000, seed=4, hospital=HOSPITALS[name]) for name in ("first", "second"))
    portable, healthy = (
        [np.mean([has(row) for row in rows]) for rows in (first, second)]
        for has in (lambda row: row.portable, lambda row: row.combination == "No Finding")
    )
    assert portable[1] > portable[0] + 0.1
    assert healthy[1] < healthy[0] - 0.1
    labels = np.zeros((20, 14), bool)
    films = [render_films(labels, 64, seed=1, hospital=HOSPITALS[name]).astype(int) for name in ("first", "second")]
    assert films[1].mean() < films[0].mean() - 10
    noise = [np.abs(np.diff(of_hospital[:, 20:40], axis=2)).mean() / of_hospital.mean() for of_hospital in films]
    assert noise[1] > 1.2 * noise[0]
