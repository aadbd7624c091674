from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tcia_folder import HEIGHT, WIDTH, TciaFolder, made_film, made_mask, write_dicom

from radflow.data.crops.mammograms import Mammogram
from radflow.data.images.film import BadFilm
from radflow.data.readers.cbis_ddsm import LABEL_FILES, CbisDdsm, FilmFolder, LesionFolder, _shapes_of, read_lesion_rows
from radflow.errors import UserError

FILM = "Mass-Training_P_00001_LEFT_CC"
BOX = (60, 20, 30, 20)
SHAPE = (HEIGHT, WIDTH)


@pytest.fixture
def tree(tmp_path: Path) -> TciaFolder:
    return TciaFolder(tmp_path)


def only_film(tree: TciaFolder) -> Mammogram:
    (film,) = CbisDdsm.at(tree.write_csvs()).read_films()
    return film


def read_mask(film: Mammogram, lesion: int = 0) -> np.ndarray:
    return film.located[lesion][1].read_mask(SHAPE)


def test_the_published_csvs(real_data: Path) -> None:
    folder = real_data / "mammo" / "cbis_ddsm" / "csv"
    counts = {}
    for name in LABEL_FILES:
        rows = read_lesion_rows(folder / name)
        pathologies = Counter(row.pathology for row in rows)
        counts[name] = (len(rows), *(pathologies[name] for name in ("malignant", "benign", "benign_without_callback")))
        assert {row.in_test for row in rows} == {"test_set" in name}
        assert {row.view for row in rows} == {"CC", "MLO"}
    assert counts == {  # rows, malignant, benign, benign without callback
        "mass_case_description_train_set.csv": (1318, 637, 577, 104),
        "mass_case_description_test_set.csv": (378, 147, 194, 37),
        "calc_case_description_train_set.csv": (1546, 544, 528, 474),
        "calc_case_description_test_set.csv": (326, 129, 130, 67),
    }
    films = CbisDdsm.at(folder).read_films()
    assert len(films) == 3103
    assert sum(len(film.lesions) for film in films) == 3568
    assert len({film.patient_id for film in films}) == 1566
    assert (
        len({film.name for film in films if film.other_lesions}) == 2 * 71
    )  # views published with masses and calcifications


def test_film_and_masks_are_joined(tree: TciaFolder) -> None:
    boxes = (BOX, (100, 10, 8, 9))
    tree.add_film(FILM, boxes)
    film = only_film(tree)
    assert (film.name, film.patient_id, film.view, film.in_test) == (FILM, "P_00001", "CC", False)
    assert film.file.read_pixels().shape == SHAPE
    assert [lesion.name for lesion in film.lesions] == ["1", "2"]
    for number, box in enumerate(boxes):
        assert np.array_equal(read_mask(film, number), made_mask(box) > 0)
        assert (film.file.read_pixels()[read_mask(film, number)] == 255).all()


@pytest.mark.parametrize("swapped", [False, True])
def test_the_mask_is_the_file_with_the_films_size(tree: TciaFolder, swapped: bool) -> None:
    tree.add_film(FILM, ())
    tree.add_lesion(FILM, 1, made_mask(BOX), made_film(), swapped)
    assert np.array_equal(read_mask(only_film(tree)), made_mask(BOX) > 0)


def test_a_mask_of_another_size_and_the_same_aspect_is_resized(tree: TciaFolder) -> None:
    tree.add_film(FILM, ())
    tree.add_lesion(FILM, 1, made_mask((120, 40, 60, 40), (2 * HEIGHT, 2 * WIDTH)), made_film())
    assert np.array_equal(read_mask(only_film(tree)), made_mask(BOX) > 0)


def test_a_crop_of_the_films_aspect_is_not_taken_for_the_mask(tree: TciaFolder) -> None:
    """The mask is of another size than the film; the crop by chance has the film's aspect too."""
    tree.add_film(FILM, ())
    tree.add_lesion(FILM, 1, made_mask((120, 40, 60, 40), (2 * HEIGHT, 2 * WIDTH)), made_film())
    crop = made_film()[40 : 40 + HEIGHT // 4, 20 : 20 + WIDTH // 4]
    write_dicom(tree.folder / f"{FILM}_1" / "1.3.8" / "1.3.9" / "1-1.dcm", crop)
    assert np.array_equal(read_mask(only_film(tree)), made_mask(BOX) > 0)


def test_the_films_size_decides_between_two_that_look_like_masks(tree: TciaFolder) -> None:
    tree.add_film(FILM, (BOX,))
    other = made_mask((0, 0, 9, 9), (HEIGHT // 2, WIDTH // 2))
    write_dicom(tree.folder / f"{FILM}_1" / "1.3.8" / "1.3.9" / "1-1.dcm", other)
    assert np.array_equal(read_mask(only_film(tree)), made_mask(BOX) > 0)


def test_mask_and_crop_may_lie_in_different_series(tree: TciaFolder) -> None:
    tree.add_film(FILM, (BOX,))
    series = tree.folder / f"{FILM}_1" / "1.3.8" / "1.3.9"
    (series.parent / "1.4.0").mkdir()
    (series / "1-2.dcm").rename(series.parent / "1.4.0" / "1-1.dcm")
    assert read_mask(only_film(tree)).sum() == 600


@pytest.mark.parametrize("place", ["CBIS-DDSM", "manifest-1700000000000/CBIS-DDSM"])
def test_the_downloaders_folders_are_found(tree: TciaFolder, place: str) -> None:
    tree.add_film(FILM, (BOX,))
    (tree.folder / place).mkdir(parents=True)
    for folder in (FILM, f"{FILM}_1"):
        (tree.folder / folder).rename(tree.folder / place / folder)
    film = only_film(tree)
    assert film.file.read_pixels().shape == SHAPE
    assert read_mask(film).any()


def refusal(tree: TciaFolder) -> str:
    with pytest.raises(BadFilm) as error:
        read_mask(only_film(tree))
    return str(error.value)


def test_lesions_without_a_usable_mask_say_why(tree: TciaFolder) -> None:
    tree.add_film(FILM, (BOX,))
    mask, crop = (tree.folder / f"{FILM}_1" / "1.3.8" / "1.3.9" / f"1-{number}.dcm" for number in (2, 1))
    write_dicom(mask, made_mask((0, 0, 10, 10), (HEIGHT, HEIGHT)))
    assert refusal(tree) == f"no mask in {FILM}_1 for a film of 120x160 pixels: it holds 20x30, 160x160"
    write_dicom(mask, np.zeros(SHAPE, np.uint8))
    assert refusal(tree) == f"no mask in {FILM}_1: 1-2.dcm does not have the two grey levels of one"
    mask.write_bytes(b"torn")
    assert refusal(tree) == f"no mask in {FILM}_1 for a film of 120x160 pixels: it holds 20x30"
    crop.write_bytes(b"torn")
    assert refusal(tree).startswith("damaged DICOM")
    mask.unlink()
    crop.unlink()
    assert refusal(tree) == f"no image in {FILM}_1"


def test_films_that_are_absent_or_not_alone_say_why(tree: TciaFolder) -> None:
    tree.add_film(FILM, (BOX,))
    film = only_film(tree)
    assert isinstance(film.file, FilmFolder)
    (place,) = film.file.places
    write_dicom(place / "second.dcm", made_film())
    with pytest.raises(BadFilm, match=r"2 images in .*, expected the film alone"):
        film.file.read_pixels()
    place.rename(place.parent / "elsewhere")
    with pytest.raises(BadFilm, match="no folder"):
        film.file.read_pixels()


def test_a_view_published_twice_knows_the_lesions_of_both(tree: TciaFolder) -> None:
    twin = FILM.replace("Mass", "Calc")
    tree.add_film(FILM, (BOX,))
    tree.add_film(twin, ((100, 10, 8, 9),))
    tree.add_film(FILM.replace("LEFT", "RIGHT"), (BOX,))
    films = {film.name: film for film in CbisDdsm.at(tree.write_csvs()).read_films()}
    assert films[FILM].other_lesions == films[twin].lesions
    assert films[twin].other_lesions == films[FILM].lesions
    assert films[FILM.replace("LEFT", "RIGHT")].other_lesions == ()


@pytest.mark.parametrize(
    ("given", "wrong", "message"),
    [
        ("MALIGNANT", "UNKNOWN", "row 3 has the pathology 'UNKNOWN', expected one of BENIGN"),
        (f"{FILM}/", "../../etc/", r"row 3 has the film '\.\.', expected P_00001 LEFT CC"),
        (f"{FILM}_1/1.3.8/1.3.9/000001", "../1/1/1", r"row 3 has the mask folder '\.\.' of abnormality '1'"),
        ("P_00001,", "P_00002,", "row 3 has the film"),
        ("image view", "view", "lacks the columns image view; it has patient_id"),
    ],
)
def test_a_bad_csv_is_one_line_with_the_row(tree: TciaFolder, given: str, wrong: str, message: str) -> None:
    tree.add_row(FILM, 1)
    path = tree.write_csvs() / LABEL_FILES[0]
    content = path.read_text()
    assert given in content
    path.write_text(content.replace(given, wrong, 1))
    with pytest.raises(UserError, match=message) as error:
        read_lesion_rows(path)
    assert "\n" not in str(error.value)


def test_repeated_lesions_and_empty_files_are_errors(tree: TciaFolder) -> None:
    with pytest.raises(UserError, match=r"none of mass_case_description_train_set.csv, .* in .*; put TCIA's CSVs"):
        CbisDdsm.at(tree.folder)
    tree.add_row(FILM, 1)
    tree.add_row(FILM, 1)
    path = tree.write_csvs() / LABEL_FILES[0]
    with pytest.raises(UserError, match=f"lists lesion {FILM}_1 a second time"):
        read_lesion_rows(path)
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(UserError, match="has no rows"):
        read_lesion_rows(path)


def test_a_pipe_named_like_a_film_is_passed_over(tmp_path: Path) -> None:
    """It would be waited for without end."""
    write_dicom(tmp_path / "lesion" / "1-2.dcm", made_mask(BOX))
    os.mkfifo(tmp_path / "lesion" / "1-1.dcm")
    assert np.array_equal(LesionFolder("lesion", (tmp_path / "lesion",)).read_mask(SHAPE), made_mask(BOX) == 255)


def test_a_pipe_is_no_mask(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1-1.dcm")
    with pytest.raises(BadFilm, match="no image in lesion"):
        _shapes_of("lesion", (tmp_path,))
