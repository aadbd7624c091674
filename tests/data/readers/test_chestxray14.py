from __future__ import annotations

import gzip
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nih_folder import HEADER, png_bytes, write_release

from radflow.data.decoding import StoredFilm
from radflow.data.readers.chestxray14 import (
    FINDINGS,
    TEST_LIST,
    TRAIN_VAL_LIST,
    ChestXray14,
    compare_with_release,
    differences_from_release,
    read_label_file,
)
from radflow.data.readers.film_lists import read_film_list
from radflow.errors import UserError

OLD_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def label_file(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "Data_Entry_2017.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_label_file_of_2017_with_year_suffix_and_trailing_commas(tmp_path: Path) -> None:
    path = label_file(
        tmp_path,
        "00000013_005.png,Emphysema|Infiltration|Pleural_Thickening|Pneumothorax,005,00013,060Y,M,AP,3056,2544,0.139,0.139,",
        "00000013_006.png,No Finding,006,00013,060Y,M,PA,3056,2544,0.139,0.139,",
        header=OLD_HEADER,
    )
    labels = read_label_file(path)
    assert labels.patient_ids.tolist() == ["13", "13"]
    assert labels.views.tolist() == ["AP", "PA"]
    assert labels.study_ids.tolist() == ["13_5", "13_6"]
    assert (labels.sexes.tolist(), labels.ages.tolist()) == (["M", "M"], [60, 60])
    present = {finding for finding, there in zip(FINDINGS, labels.labels[0], strict=True) if there}
    assert present == {"Emphysema", "Infiltration", "Pleural_Thickening", "Pneumothorax"}
    assert not labels.labels[1].any()


def test_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "Data_Entry_2017.csv"
    path.write_bytes(f"{HEADER}\n00000001_000.png,Mass,0,1,57,M,PA\n\n".replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_label_file(path).image_ids.tolist() == ["00000001_000.png"]


@pytest.mark.parametrize(
    ("age", "years"),
    [("57", 57), ("058Y", 58), ("011M", 0), ("003D", 0), ("0", 0), ("414", -1), ("", -1), ("old", -1), ("-4", -1)],
)
def test_ages_are_in_years_and_impossible_ones_unknown(tmp_path: Path, age: str, years: int) -> None:
    """The file of 2017 has a patient of 414 years."""
    path = label_file(tmp_path, f"00000001_000.png,Mass,0,1,{age},F,PA")
    assert read_label_file(path).ages.tolist() == [years]


def test_sex_age_and_follow_up_may_be_absent(tmp_path: Path) -> None:
    header = "Image Index,Finding Labels,Patient ID,View Position"
    labels = read_label_file(label_file(tmp_path, "00000001_000.png,Mass,1,PA", header=header))
    assert (labels.study_ids[0], labels.sexes[0], labels.ages[0]) == ("", "", -1)


def test_the_whole_release_has_its_published_counts(real_data: Path) -> None:
    folder = real_data / "nih_labels_full"
    labels = ChestXray14.at(folder).read_labels()
    assert len(labels) == 112_120
    assert differences_from_release(labels) == []
    assert len(set(labels.patient_ids.tolist())) == 30_805  # the release's README
    assert len(set(labels.study_ids.tolist())) == 112_120
    assert {sex: int((labels.sexes == sex).sum()) for sex in "FM"} == {"F": 48_780, "M": 63_340}
    assert (labels.ages.min(), labels.ages.max()) == (0, 95)
    train_val, test = (read_film_list(ChestXray14.at(folder).list_path(name)) for name in (TRAIN_VAL_LIST, TEST_LIST))
    assert (len(train_val), len(test)) == (86_524, 25_596)
    assert set(train_val) | set(test) == set(labels.image_ids.tolist())


def test_a_full_file_is_held_to_its_counts_and_a_part_is_not(real_data: Path) -> None:
    labels = ChestXray14.at(real_data / "nih_labels_full").read_labels()
    assert compare_with_release(labels) == [
        "Data_Entry_2017_v2020.csv.gz has the release's 112,120 films, and its count of every finding."
    ]
    labels.labels[np.flatnonzero(labels.labels[:, FINDINGS.index("Hernia")])[0], FINDINGS.index("Hernia")] = False
    assert "Hernia: 226 films in Data_Entry_2017_v2020.csv.gz, 227 in the release of 2020" in compare_with_release(
        labels
    )
    assert compare_with_release(replace(labels, image_ids=labels.image_ids[1:])) == []


ROW = "00000001_000.png,Mass,0,1,57,M,PA"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give the release's label file"),
        (f"{HEADER}\n".encode(), "has no rows"),
        (
            b"Image Index,Finding Labels\na.png,Mass\n",
            "lacks the columns Patient ID, View Position; it has Image Index",
        ),
        (
            f"{HEADER}\n00000001_000.png,Mass|Pneumona,0,1,57,M,PA\n".encode(),
            "row 2 has the unknown finding 'Pneumona'",
        ),
        (f"{HEADER}\n00000001_000.png,,0,1,57,M,PA\n".encode(), "row 2 has the unknown finding ''"),
        (
            f"{HEADER}\n00000001_000.png,No Finding|Mass,0,1,57,M,PA\n".encode(),
            "row 2 says both No Finding and a finding",
        ),
        (f"{HEADER}\n{ROW}\n{ROW}\n".encode(), "lists 00000001_000.png twice, in rows 2 and 3"),
        (f"{HEADER}\n../00000001_000.png,Mass,0,1,57,M,PA\n".encode(), "row 2 has Image Index '../00000001_000.png'"),
        (f"{HEADER}\nNaN,Mass,0,1,57,M,PA\n".encode(), "row 2 has Image Index 'NaN'"),
        (f'{HEADER}\n"0\n1.png",Mass,0,1,57,M,PA\n'.encode(), r"row 3 has Image Index '0\\n1\.png'"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "is UTF-16 or no text, expected UTF-8"),
        (
            f"{HEADER}\n00000001_000.png,Mass,0,NaN,57,M,PA\n".encode(),
            r"Patient ID 'NaN', expected the patient's number",
        ),
        (f"{HEADER}\n00000001_000.png,Mass\n".encode(), "row 2 has 2 cells, expected at least 7"),
        (
            f"{HEADER}\n{ROW}\n00000002_000.png,Mass,0,2,57,M,P\xc4\n".encode("latin-1"),
            "row 3 has a byte that is not UTF-8",
        ),
        (f'{HEADER}\n"00000001_000.png,Mass,0,1,57,M,PA\n'.encode(), "is not CSV"),
    ],
)
def test_a_bad_label_file_is_one_line_with_file_and_row(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "Data_Entry_2017.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_label_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_gzip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "Data_Entry_2017.csv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode())[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        read_label_file(path)


def test_folder_without_release(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        ChestXray14.at(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no label file Data_Entry_2017\*\.csv"):
        ChestXray14.at(tmp_path)
    label_file(tmp_path, ROW)
    with pytest.raises(UserError, match=r"no test_list\.txt in .*split=random"):
        ChestXray14.at(tmp_path).list_path(TEST_LIST)
    shutil.copy(tmp_path / "Data_Entry_2017.csv", tmp_path / "Data_Entry_2017_v2020.csv")
    with pytest.raises(UserError, match="several label files"):
        ChestXray14.at(tmp_path)


def test_kaggles_mirror_of_small_films_is_found(tmp_path: Path) -> None:
    names = write_release(tmp_path, films=8)
    (tmp_path / "images-224").mkdir()
    (tmp_path / "images").rename(tmp_path / "images-224" / "images-224")
    for part in ("train_val", "test"):
        (tmp_path / f"{part}_list.txt").rename(tmp_path / f"{part}_list_NIH.txt")
    release = ChestXray14.at(tmp_path)
    assert [item.name for item in release.files().images(names) if isinstance(item, StoredFilm)] == names
    assert release.list_path(TEST_LIST).name == "test_list_NIH.txt"


@pytest.mark.parametrize("packed", [False, True])
def test_the_case_of_a_suffix_and_a_folder_of_archives_lose_no_film(tmp_path: Path, packed: bool) -> None:
    names = write_release(tmp_path, films=4)
    images = tmp_path / "images"
    expected = [(images / name).read_bytes() for name in names]
    for name in names[:2]:
        (images / name).rename(images / name.replace(".png", ".PNG"))
    if packed:
        with zipfile.ZipFile(tmp_path / "images_001.zip", "w") as archive:
            for path in sorted(images.iterdir()):
                archive.write(path, f"images/{path.name}")
                path.unlink()
        (tmp_path / "images_001.zip").rename(images / "images_001.zip")
    found = {
        item.name: item.content
        for item in ChestXray14.at(tmp_path).files().images(names)
        if isinstance(item, StoredFilm)
    }
    contents = [found[name] for name in names]
    assert [content if isinstance(content, bytes) else content.read_bytes() for content in contents] == expected


def test_films_are_found_in_every_layout(tmp_path: Path) -> None:
    names = write_release(tmp_path, films=4)
    images = tmp_path / "images"
    for place in ("images_001/images", "images_002", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (images / names[1]).rename(tmp_path / "images_001" / "images" / names[1])
    (images / names[2]).rename(tmp_path / "images_002" / names[2])
    (images / names[3]).rename(tmp_path / names[3])
    found = list(ChestXray14.at(tmp_path).files().images([*names, "00000099_000.png"]))
    absent = [(name, str(reason)) for name, reason in (item for item in found if isinstance(item, tuple))]
    assert absent == [("00000099_000.png", f"no image file in {tmp_path}, its images* folders or archives")]
    assert [item.name for item in found if isinstance(item, StoredFilm)] == names


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TEST_LIST).write_text("\n")
    with pytest.raises(UserError, match="names no film"):
        read_film_list(tmp_path / TEST_LIST)


def test_png_bytes_of_the_tests_are_films() -> None:
    assert png_bytes(np.zeros((4, 4), np.uint8)).startswith(b"\x89PNG")
