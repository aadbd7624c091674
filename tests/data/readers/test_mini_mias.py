from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nih_folder import png_bytes

from radflow.data.crops.mammograms import Mammogram
from radflow.data.images.film import BadFilm
from radflow.data.readers.mini_mias import FILM_SIDE, Circle, MiniMias
from radflow.errors import UserError

LIST = """              MINI MAMMOGRAPHIC DATABASE
mdbs are numbered in pairs.

mdb001 G CIRC B 535 425 197
mdb002 D NORM 
mdb003 G CALC M *NOTE 3*
mdb004 F CIRC B
mdb005 F CIRC B 477 133 30
mdb005 F CIRC B 500 168 26
"""  # noqa: W291 - the release has the blank


def released(folder: Path, text: str = LIST) -> dict[str, Mammogram]:
    (folder / "Info.txt").write_text(text)
    return {film.name: film for film in MiniMias.at(folder).read_films()}


def write_pgm(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(f"P5\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes())


def test_the_released_list(tmp_path: Path) -> None:
    films = released(tmp_path)
    assert list(films) == ["mdb001", "mdb002", "mdb003", "mdb004", "mdb005"]
    assert [film.patient_id for film in films.values()] == ["mias_001", "mias_001", "mias_002", "mias_002", "mias_003"]
    assert [len(film.located) for film in films.values()] == [1, 0, 0, 0, 2]
    assert [len(film.unlocated) for film in films.values()] == [0, 0, 1, 1, 0]
    assert [lesion.name for lesion in films["mdb005"].lesions] == ["1", "2"]
    pathologies = [[lesion.pathology for lesion in film.lesions] for film in films.values()]
    assert pathologies == [["benign"], [], ["malignant"], ["benign"], ["benign", "benign"]]


def test_y_counts_from_the_bottom(tmp_path: Path) -> None:
    """477, 133 of 1024 rows is row 1024 - 133 = 891 from the top; radius 30."""
    mask = released(tmp_path)["mdb005"].located[0][1].read_mask((FILM_SIDE, FILM_SIDE))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max()) == (861, 921)
    assert (columns.min(), columns.max()) == (447, 507)
    assert mask.sum() == pytest.approx(np.pi * 30**2, rel=0.01)


def test_films_are_read_as_pgm_and_must_have_the_size_of_the_coordinates(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (FILM_SIDE, FILM_SIDE), dtype=np.uint8)
    (tmp_path / "all-mias").mkdir()
    write_pgm(tmp_path / "all-mias" / "mdb001.pgm", pixels)
    write_pgm(tmp_path / "mdb002.pgm", pixels[:512, :512])
    films = released(tmp_path)
    assert np.array_equal(films["mdb001"].file.read_pixels(), pixels)
    with pytest.raises(BadFilm, match="film of 512x512 pixels, expected 1024x1024"):
        films["mdb002"].file.read_pixels()
    with pytest.raises(BadFilm, match="no image file of this name"):
        films["mdb003"].file.read_pixels()


def test_both_lists_say_the_same_of_the_films(tmp_path: Path, real_data: Path) -> None:
    source = real_data / "mammo" / "mias"
    shutil.copy(source / "Info.txt", tmp_path)
    whole = {film.name: film for film in MiniMias.at(tmp_path).read_films()}
    assert len(whole) == 322
    assert len({film.patient_id for film in whole.values()}) == 161
    assert sum(not film.lesions for film in whole.values()) == 207
    assert sum(len(film.located) for film in whole.values()) == 119
    assert {name for name, film in whole.items() if film.unlocated} == {"mdb059", "mdb216", "mdb233", "mdb245"}
    listed = MiniMias.at(source).read_films()
    assert len(listed) == 214
    for film in listed:
        assert (film.patient_id, film.lesions) == (whole[film.name].patient_id, whole[film.name].lesions)


def contrast(pixels: np.ndarray, lesion: Circle) -> float:
    """Mean grey level within a lesion's circle, less that of the ring around it."""
    circle = lesion.read_mask(pixels.shape)
    ring = replace(lesion, radius=2 * lesion.radius).read_mask(pixels.shape) & ~circle
    return float(pixels[circle].mean() - pixels[ring].mean())


@pytest.mark.parametrize("name", ["mdb171", "mdb184", "mdb195", "mdb202", "mdb204", "mdb244", "mdb264", "mdb270"])
def test_real_lesions_stand_out_where_they_are_located_and_not_upside_down(real_data: Path, name: str) -> None:
    """Films with a distinct mass. Of all 79 located lesions 95 % are brighter than their ring, 71 % upside down."""
    film = next(film for film in MiniMias.at(real_data / "mammo" / "mias").read_films() if film.name == name)
    pixels = film.file.read_pixels()
    ((_, lesion),) = film.located
    assert isinstance(lesion, Circle)
    upside_down = replace(lesion, y_from_bottom=FILM_SIDE - lesion.y_from_bottom)
    assert contrast(pixels, lesion) > 10 + contrast(pixels, upside_down)


def test_the_csv_list_comes_first(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mdb007.png").write_bytes(png_bytes(np.full((FILM_SIDE, FILM_SIDE), 9, np.uint8)))
    (tmp_path / "labels.csv").write_text(
        "file,class,pathology,lesion_x,lesion_y_from_bottom,lesion_y,radius\n"
        "images/mdb007.png,SPIC,malignant,10,24,1000,5\nimages/mdb007.png,CALC,benign,,,,\n"
    )
    film = released(tmp_path)["mdb007"]
    assert (film.file.read_pixels() == 9).all()
    assert film.located[0][1].read_mask((FILM_SIDE, FILM_SIDE))[1000, 10]
    assert [(lesion.name, lesion.pathology) for lesion in film.unlocated] == [("2", "benign")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mdb005 F CIRC B 477 133", "row 1 is 'mdb005 F CIRC B 477 133', expected such as"),
        ("mdb005 F BLOB B 477 133 30", "row 1 has the class 'BLOB', expected one of CALC"),
        ("mdb5 F NORM", "row 1 has the film 'mdb5', expected a name such as mdb001"),
        ("mdb005 F CIRC B 1024 133 30", "row 1 has a lesion at 1024, 133, outside the film"),
        ("mdb005 F CIRC B 477 0 30", "row 1 has a lesion at 477, 0, outside the film"),
        ("nothing", "lists no film"),
    ],
)
def test_a_bad_list_is_one_line_with_the_row(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        released(tmp_path, line)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Info\.txt and no labels\.csv in"):
        MiniMias.at(tmp_path)
