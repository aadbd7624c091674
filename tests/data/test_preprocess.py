from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from nih_folder import HEADER, write_release

from radflow.data import shards
from radflow.data.dataset import Dataset, verify_dataset
from radflow.data.findings import FINDINGS
from radflow.data.frequencies import frequency_table
from radflow.data.images import read_film
from radflow.data.preprocess import PreprocessConfig, preprocess
from radflow.errors import UserError


def run(source: Path, out: Path, **settings: object) -> Dataset:
    return preprocess(
        PreprocessConfig(source=str(source), out=str(out), **{"image_size": 32, "workers": 1, **settings})
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rejected(dataset: Dataset) -> dict[str, str]:
    with (dataset.path / "rejected.csv").open(newline="") as file:
        return {line["image_id"]: line["reason"] for line in csv.DictReader(file)}


def pack(folder: Path, archive: Path, names: list[str], *hostile: tarfile.TarInfo) -> None:
    with tarfile.open(archive, "w:gz") as packed:
        for member in hostile:
            packed.addfile(member, io.BytesIO(bytes(member.size)))
        for name in names:
            packed.add(folder / "images" / name, f"images/{name}")


def test_films_labels_and_splits_arrive(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    seen = []
    config = PreprocessConfig(source=str(tmp_path / "nih"), out=str(tmp_path / "out"), image_size=32, workers=1)
    dataset = preprocess(config, lambda *progress: seen.append(progress))
    assert seen[-1] == (24, 24, 0)
    assert [done for done, *_ in seen] == list(range(1, 25))
    assert dataset.findings == FINDINGS
    assert "crops" not in json.loads((dataset.path / "manifest.json").read_text())
    test = dataset.split("test")
    assert test.image_ids.tolist() == (tmp_path / "nih" / "test_list.txt").read_text().split()
    for place, name in enumerate(test.image_ids):
        content = (tmp_path / "nih" / "images" / name).read_bytes()
        assert np.array_equal(test.gather(np.array([place]))[0], read_film(content, name, 32))
        expected = {"No Finding": [], "Mass": ["Mass"], "Hernia": ["Hernia"]}.get(
            ("No Finding", "Mass", "Effusion|Infiltration", "Hernia")[names.index(name) % 4],
            ["Effusion", "Infiltration"],
        )
        assert [finding for finding, there in zip(FINDINGS, test.labels[place], strict=True) if there] == expected
    patients = {name: set(dataset.split(name).patient_ids.tolist()) for name in ("train", "val", "test")}
    assert not patients["train"] & patients["val"]
    assert not (patients["train"] | patients["val"]) & patients["test"]
    assert len(patients["val"]) == 1


def test_the_order_of_rows_does_not_move_patients_between_splits(tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=40)
    first = run(tmp_path / "nih", tmp_path / "a", split="random")
    label_file = tmp_path / "nih" / "Data_Entry_2017.csv"
    rows = label_file.read_text().splitlines()[1:]
    random.Random(3).shuffle(rows)
    label_file.write_text("\n".join([HEADER, *rows]) + "\n")
    second = run(tmp_path / "nih", tmp_path / "b", split="random")
    for name in ("train", "val", "test"):
        assert set(first.split(name).image_ids.tolist()) == set(second.split(name).image_ids.tolist())


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=70)
    (tmp_path / "nih" / "images" / names[5]).write_bytes(b"torn")
    one = run(tmp_path / "nih", tmp_path / "one", workers=1, max_rejected=0.1)
    two = run(tmp_path / "nih", tmp_path / "two", workers=2, max_rejected=0.1)
    assert contents(one.path) == contents(two.path)
    assert verify_dataset(one.path).manifest.rejected == 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 10)
    names = write_release(tmp_path / "nih", films=80)
    (tmp_path / "nih" / "images" / names[5]).write_bytes(b"torn")
    if packed:
        hostile = tarfile.TarInfo(f"../{names[0]}")
        pack(tmp_path / "nih", tmp_path / "nih" / "images_001.tar.gz", names, hostile)
        shutil.rmtree(tmp_path / "nih" / "images")
    settings = {"source": str(tmp_path / "nih"), "image_size": 32, "max_rejected": 0.1}
    whole = preprocess(PreprocessConfig(out=str(tmp_path / "whole"), workers=1, **settings))

    def interrupt(done: int, total: int, rejected: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    config = PreprocessConfig(out=str(tmp_path / "out"), workers=1, **settings)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, interrupt)
    assert not (tmp_path / "out").exists()
    seen = []
    resumed = preprocess(config, lambda *progress: seen.append(progress))
    assert seen[0][0] >= 40
    assert seen[-1] == (80, 80, 1)
    assert "going on after an interruption: 40 of 80 films" in capsys.readouterr().err
    assert contents(resumed.path) == contents(whole.path)


def test_a_run_does_not_go_on_with_films_of_another_state_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 10)
    names = write_release(tmp_path / "nih", films=80)
    film = tmp_path / "nih" / "images" / names[5]
    film.rename(tmp_path / "kept_back.png")

    def interrupt(done: int, total: int, rejected: int) -> None:
        if done == 60:
            raise KeyboardInterrupt

    config = PreprocessConfig(
        source=str(tmp_path / "nih"), out=str(tmp_path / "out"), image_size=32, workers=1, max_rejected=0.1
    )
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, interrupt)
    (tmp_path / "kept_back.png").rename(film)
    assert preprocess(config).manifest.rejected == 0


def test_archives_equal_the_folder_and_hostile_members_change_nothing(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    folder = run(tmp_path / "nih", tmp_path / "from_folder")
    packed = tmp_path / "packed"
    shutil.copytree(tmp_path / "nih", packed, ignore=shutil.ignore_patterns("images"))
    traversal, link = tarfile.TarInfo(f"../../{names[0]}"), tarfile.TarInfo(f"images/{names[1]}")
    absolute, huge = tarfile.TarInfo(f"/etc/{names[2]}"), tarfile.TarInfo(names[3])
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    huge.size = 300 * 2**20
    pack(tmp_path / "nih", packed / "images_001.tar.gz", names[16:], traversal, link, absolute)
    pack(tmp_path / "nih", packed / "images_002.tar.gz", names[15::-1])
    archives = run(packed, tmp_path / "from_archives")
    assert archives.digest == folder.digest
    assert {name: content for name, content in contents(archives.path).items() if name != "rejected.csv"} == {
        name: content for name, content in contents(folder.path).items() if name != "rejected.csv"
    }
    assert list(rejected(archives)) == [f"images_001.tar.gz:{member.name}" for member in (traversal, link, absolute)]
    pack(tmp_path / "nih", packed / "images_001.tar.gz", names[16:], huge)
    with pytest.raises(UserError, match="inflates to over 20 times its size"):
        run(packed, tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()


def test_damaged_and_missing_films_are_rejected_with_the_reason(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    images = tmp_path / "nih" / "images"
    (images / names[0]).write_bytes((images / names[0]).read_bytes()[:-40])
    (images / names[1]).write_text("<html>404</html>")
    (images / names[2]).unlink()
    (images / names[3]).unlink()
    (images / names[3]).mkdir()
    dataset = run(tmp_path / "nih", tmp_path / "out", max_rejected=0.2)
    reasons = rejected(dataset)
    assert reasons[names[0]].startswith("truncated PNG")
    assert reasons[names[1]].startswith("not a PNG, JPEG or DICOM film although named .png")
    assert reasons[names[2]] == f"no image file in {tmp_path / 'nih'}"
    assert reasons[names[3]] == "not a regular file"
    assert dataset.manifest.rejected == 4
    assert dataset.manifest.rows == 20


def test_too_many_rejected_films_stop_it_and_leave_nothing(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    (tmp_path / "nih" / "images" / names[7]).unlink()
    with pytest.raises(UserError, match=rf"1 of 24 films of .* max_rejected=0.01 allows \({names[7]}: no image file"):
        run(tmp_path / "nih", tmp_path / "out")
    shutil.rmtree(tmp_path / "nih" / "images")
    with pytest.raises(UserError, match="24 of 24 films"):
        run(tmp_path / "nih", tmp_path / "out", max_rejected=1)
    assert [path.name for path in tmp_path.iterdir()] == ["nih"]


def test_films_on_neither_list_are_named_and_not_rejected(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    listed = (tmp_path / "nih" / "train_val_list.txt").read_text().split()
    (tmp_path / "nih" / "train_val_list.txt").write_text("\n".join([*listed[2:], "00000099_000.png"]))
    dataset = run(tmp_path / "nih", tmp_path / "out", max_rejected=0.1)
    assert dataset.manifest.unlisted == 2
    assert dataset.manifest.rejected == 1
    assert rejected(dataset) == {
        "00000099_000.png": "no row in Data_Entry_2017.csv",
        names[0]: "on neither train_val_list.txt nor test_list.txt",
        names[1]: "on neither train_val_list.txt nor test_list.txt",
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


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 16}, "image_size=16 is out of range: expected 32 to 1024"),
        ({"image_size": 2048}, "image_size=2048"),
        ({"split": "by film"}, "split=by film"),
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
        ({"split": "random", "val_fraction": 0.5, "test_fraction": 0.5}, r"val_fraction \+ test_fraction = 1"),
        ({"max_rejected": 1.5}, "max_rejected=1.5"),
        ({"max_rejected": float("nan")}, "max_rejected=nan"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_settings_out_of_range_are_one_line(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PreprocessConfig(source="nih", out="out", **setting)


def test_frequency_table_is_table_one(tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=24)
    table = frequency_table(run(tmp_path / "nih", tmp_path / "out")).set_index("Disease")
    assert table.index.tolist() == [*FINDINGS, "No Findings", "Totals"]
    assert table.loc["Effusion", ["Images", "Percentage"]].tolist() == [6, 25.0]
    assert table.loc["No Findings", "Images"] == 6
    assert table.loc["Totals", ["Images", "Percentage", "test"]].tolist() == [24, 100.0, 6]
    assert (table[["train", "val", "test"]].sum(axis=1) == table["Images"]).all()


def test_preprocessing_imports_neither_tensorflow_nor_mlflow() -> None:
    code = (
        "import sys, radflow.data.preprocess; print([m for m in ('tensorflow', 'keras', 'mlflow') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_real_films(real_data: Path, tmp_path: Path) -> None:
    names = (real_data / "nih" / "train_val_list.txt").read_text().split()[:40]
    names += (real_data / "nih" / "test_list.txt").read_text().split()[:20]
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "images").symlink_to(real_data / "nih" / "images")
    for name in ("train_val_list.txt", "test_list.txt"):
        kept = [line for line in (real_data / "nih" / name).read_text().split() if line in names]
        (tmp_path / "nih" / name).write_text("\n".join(kept))
    shutil.copy(real_data / "nih" / "Data_Entry_2017.csv", tmp_path / "nih")
    dataset = run(tmp_path / "nih", tmp_path / "out", image_size=64)
    assert (dataset.manifest.rows, dataset.manifest.rejected, dataset.manifest.unlisted) == (60, 0, 1445)
    assert 60 < dataset.split("train").gather(np.arange(10)).mean() < 180
