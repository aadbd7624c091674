"""Lists of films that make the splits: the release's own, and those of a user."""

from __future__ import annotations

from pathlib import Path

import pytest
from nih_folder import write_release
from test_preprocess import rejected, run

from radflow.data.readers.film_lists import ListConfig
from radflow.errors import UserError


def test_films_on_neither_list_are_named_and_not_rejected(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    listed = (tmp_path / "nih" / "train_val_list.txt").read_text().split()
    (tmp_path / "nih" / "train_val_list.txt").write_text("\n".join([*listed[2:], "00000099_000.png"]))
    dataset = run(tmp_path / "nih", tmp_path / "out", max_rejected=0.1)
    assert dataset.manifest.unlisted == 2
    assert dataset.manifest.rejected == 1
    assert rejected(dataset) == {
        "00000099_000.png": "no row in Data_Entry_2017.csv",
        names[0]: "on no list",
        names[1]: "on no list",
    }


@pytest.mark.parametrize(
    ("test_list", "message"),
    [
        (
            "00000001_000.png\n",
            r"1 films are in both train_val_list.txt and test_list.txt, 00000001_000.png is the first",
        ),
        ("99999999_000.png\n", "test_list.txt names no film of Data_Entry_2017.csv"),
        ("", "test_list.txt names no film; give the release's list"),
    ],
)
def test_bad_lists_are_one_line(tmp_path: Path, test_list: str, message: str) -> None:
    write_release(tmp_path / "nih", films=24)
    (tmp_path / "nih" / "test_list.txt").write_text(test_list)
    with pytest.raises(UserError, match=message):
        run(tmp_path / "nih", tmp_path / "out")


def test_lists_that_part_a_patient_are_an_error(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    (tmp_path / "nih" / "train_val_list.txt").write_text("\n".join(names[:19]))
    (tmp_path / "nih" / "test_list.txt").write_text("\n".join(names[19:]))
    with pytest.raises(UserError, match=r"patient 10 has films in both (train|val) and test"):
        run(tmp_path / "nih", tmp_path / "out")


def own_lists(folder: Path, **names: list[str]) -> ListConfig:
    for split, films in names.items():
        (folder / f"{split}.txt").write_text("\n".join(films))
    return ListConfig(**{f"{split}_list": str(folder / f"{split}.txt") for split in names})


def test_lists_of_one_s_own(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    parts = {"train": names[:10], "val": names[10:14], "test": names[14:20]}
    dataset = run(tmp_path / "nih", tmp_path / "out", split="lists", lists=own_lists(tmp_path, **parts))
    assert {split: dataset.split(split).image_ids.tolist() for split in parts} == parts
    assert rejected(dataset) == dict.fromkeys(names[20:], "on no list")
    assert (dataset.manifest.split_rule.rule, dataset.manifest.split_rule.val_fraction) == ("lists", None)
    assert {"train_list/train.txt", "val_list/val.txt", "test_list/test.txt"} < dataset.manifest.sources.keys()
    del parts["val"]
    carved = run(tmp_path / "nih", tmp_path / "carved", split="lists", lists=own_lists(tmp_path, **parts))
    assert carved.split("test").image_ids.tolist() == parts["test"]
    in_train, in_val = (set(carved.split(split).image_ids.tolist()) for split in ("train", "val"))
    assert in_train | in_val == set(parts["train"])
    assert len(in_val) == 2  # one patient of five


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"val": slice(9, 14)}, r"1 films are in both train.txt and val.txt, 00000005_001.png is the first"),
        ({"val": slice(11, 14)}, r"patient 6 has films in both train and val"),
        ({"val": slice(30, 40)}, r"val.txt names no film; give the release's list"),
    ],
)
def test_lists_that_share_films_or_patients_are_one_line(tmp_path: Path, parts: dict[str, slice], message: str) -> None:
    names = write_release(tmp_path / "nih", films=24)
    given = {"train": slice(0, 11 if "patient" in message else 10), "test": slice(14, 20)} | parts
    lists = own_lists(tmp_path, **{split: names[part] for split, part in given.items()})
    with pytest.raises(UserError, match=message):
        run(tmp_path / "nih", tmp_path / "out", split="lists", lists=lists)
    assert not (tmp_path / "out").exists()
