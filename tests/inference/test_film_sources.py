from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_classifier import encoded, random_films

from radflow.data.images.film import BadFilm
from radflow.errors import UserError
from radflow.inference.film_sources import list_films, read_ahead


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_tree_holds_films_by_suffix_and_dicom_by_its_bytes(tmp_path: Path) -> None:
    dicom = bytes(128) + b"DICM" + bytes(20)
    for name, content in {
        "b/film.PNG": encoded(random_films(1)[0]),
        "a.jpeg": b"\xff\xd8\xff",
        "study/IM000001": dicom,
        "study/1.2.840.113619": dicom,  # its UID, which looks like a suffix
        "DICOMDIR": dicom,
        "scan.webp": b"RIFF",  # no film that is read, and told so
        "head.nii.gz": b"\x1f\x8b",
        "without/preamble": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(120),
        "notes.txt": b"a mass, left",
        "empty": b"",
    }.items():
        write(tmp_path / name, content)
    names = [film.name for film in list_films(tmp_path)]
    assert names == [
        *("a.jpeg", "b/film.PNG", "head.nii.gz", "scan.webp"),
        *("study/1.2.840.113619", "study/IM000001", "without/preamble"),
    ]


def test_a_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    (film,) = list_films(str(write(tmp_path / "film.bin", b"anything")))
    assert film.name == "film.bin"


def test_a_list_keeps_its_order_and_its_names(tmp_path: Path) -> None:
    paths = [tmp_path / "b.png", tmp_path / "a.png"]
    assert [film.name for film in list_films(paths)] == [str(path) for path in paths]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere", "does not exist"),
        ([], "no films given"),
        (np.zeros((2, 8, 8)), "expected grey uint8"),
        (np.zeros((0, 8, 8), np.uint8), "expected grey uint8"),
        (np.zeros(8, np.uint8), "expected grey uint8"),
    ],
)
def test_what_holds_no_films_is_one_line(source, says) -> None:
    with pytest.raises(UserError, match=says) as error:
        list_films(source)
    assert "\n" not in str(error.value)


def test_a_folder_without_films_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no films"):
        list_films(tmp_path)


def test_films_are_read_in_order_whatever_waits_and_bad_ones_say_why(tmp_path: Path) -> None:
    films = random_films(9)
    paths = [write(tmp_path / f"{number}.png", encoded(film)) for number, film in enumerate(films)]
    paths[4].write_bytes(b"no film")
    paths[7].unlink()
    read = list(read_ahead(list_films(paths), 32, "squash", most_waiting=3))
    assert [number for number, film in enumerate(read) if isinstance(film, BadFilm)] == [4, 7]
    for number in (0, 1, 2, 3, 5, 6, 8):
        np.testing.assert_array_equal(read[number].pixels, films[number])
