from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from nih_folder import HEADER, png_bytes, write_release

from radflow.data.config import PreprocessConfig
from radflow.data.dataset import shards
from radflow.data.dataset.frequencies import frequency_table
from radflow.data.dataset.reading import Dataset, verify_dataset
from radflow.data.images.film import read_film
from radflow.data.preprocess import preprocess
from radflow.data.readers.boxes import FindingBox, read_boxes
from radflow.data.readers.chestxray14 import FINDINGS
from radflow.data.readers.film_lists import ListConfig
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


Member = tuple[tarfile.TarInfo, bytes]


def pack(
    folder: Path, archive: Path, names: list[str], before: Sequence[Member] = (), after: Sequence[Member] = ()
) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        for member, content in before:
            packed.addfile(member, io.BytesIO(content))
        for name in names:
            packed.add(folder / "images" / name, f"images/{name}")
        for member, content in after:
            packed.addfile(member, io.BytesIO(content))


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> Member:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, len(content)
    return made, content


def hostile_members(name: str) -> list[Member]:
    """Ten ways to harm with a member that is called as a film is."""
    return [
        member(f"../../{name}", content=b"climbs"),
        member(f"/etc/{name}", content=b"absolute"),
        member(f"..\\..\\{name}", content=b"climbs elsewhere"),
        member(f"images/{name}", tarfile.SYMTYPE, "/etc/passwd"),
        member(f"links/{name}", tarfile.LNKTYPE, f"../{name}"),
        member(f"pipes/{name}", tarfile.FIFOTYPE),
        member(f"terminals/{name}", tarfile.CHRTYPE),
        member(f"disks/{name}", tarfile.BLKTYPE),
        member(f"sparse/{name}", tarfile.GNUTYPE_SPARSE),
        member(f"second/{name}", content=png_bytes(np.zeros((8, 8), np.uint8))),
    ]


def assert_archives_equal_the_folder(folder: Path, workplace: Path, names: list[str]) -> None:
    """Pack a release into two archives with ten hostile members, and compare what comes of it and of the folder."""
    packed = workplace / "packed"
    shutil.copytree(folder, packed, ignore=shutil.ignore_patterns("images", "originals"))
    half = len(names) // 2
    *others, second = hostile_members(names[-1])
    pack(folder, packed / "images_001.tar.gz", names[half:], others, [second])
    pack(folder, packed / "images_002.tar.gz", names[:half][::-1])
    from_folder = run(folder, workplace / "from_folder")
    from_archives = run(packed, workplace / "from_archives")
    assert from_archives.digest == from_folder.digest
    for path in from_folder.path.iterdir():
        if path.name != "rejected.csv":
            assert path.read_bytes() == (from_archives.path / path.name).read_bytes(), path.name
    listed = rejected(from_archives)
    for name in rejected(from_folder):
        del listed[name]
    assert list(listed) == [f"images_001.tar.gz:{hostile.name}" for hostile, _ in (*others, second)]
    assert all(reason.startswith("archive member refused: ") for reason in listed.values())
    assert sorted(path.name for path in workplace.iterdir()) == ["from_archives", "from_folder", "nih", "packed"]


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
        assert np.array_equal(test.gather(np.array([place]))[0], read_film(content, name, 32, "squash"))
        expected = {"No Finding": [], "Mass": ["Mass"], "Hernia": ["Hernia"]}.get(
            ("No Finding", "Mass", "Effusion|Infiltration", "Hernia")[names.index(name) % 4],
            ["Effusion", "Infiltration"],
        )
        assert [finding for finding, there in zip(FINDINGS, test.labels[place], strict=True) if there] == expected
    assert test.table.study_ids.tolist() == [f"{names.index(name) // 2 + 1}_0" for name in test.image_ids]
    assert (set(test.table.sexes.tolist()), set(test.table.ages.tolist())) == ({"M"}, {57})
    assert (dataset.manifest.task, set(test.table.film_ids.tolist())) == ("chest", {""})
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
        pack(tmp_path / "nih", tmp_path / "nih" / "images_001.tar.gz", names, [(hostile, b"")])
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
    assert "resuming after an interruption: 40 of 80 films" in capsys.readouterr().err
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
    assert_archives_equal_the_folder(tmp_path / "nih", tmp_path, names)


def test_archives_of_real_films_equal_the_folder(tmp_path: Path, real_data: Path) -> None:
    (tmp_path / "nih").symlink_to(real_data / "nih")
    names = (real_data / "nih" / "Data_Entry_2017.csv").read_text().splitlines()[1:]
    assert_archives_equal_the_folder(tmp_path / "nih", tmp_path, [row.partition(",")[0] for row in names])


def test_an_archive_that_is_a_bomb_is_one_line(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    huge = tarfile.TarInfo(names[3])
    huge.size = 300 * 2**20
    pack(tmp_path / "nih", tmp_path / "nih" / "images_001.tar.gz", names, [(huge, bytes(huge.size))])
    shutil.rmtree(tmp_path / "nih" / "images")
    with pytest.raises(UserError, match="inflates to over 20 times its size"):
        run(tmp_path / "nih", tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()


def test_zips_folders_and_archives_mixed_equal_the_folder(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    whole = run(tmp_path / "nih", tmp_path / "whole")
    images = tmp_path / "nih" / "images"
    pack(tmp_path / "nih", tmp_path / "nih" / "images_001.tar.gz", names[:6])
    with zipfile.ZipFile(tmp_path / "nih" / "archive.zip", "w") as zipped:
        for name in names[6:12]:
            zipped.write(images / name, f"images_002/images/{name}")
    for place, kept in (("images_003/images", names[12:18]), ("images_004", names[18:])):
        (tmp_path / "nih" / place).mkdir(parents=True)
        for name in kept:
            shutil.copy(images / name, tmp_path / "nih" / place)
    shutil.rmtree(images)
    assert contents(run(tmp_path / "nih", tmp_path / "mixed").path) == contents(whole.path)


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
    assert reasons[names[2]].startswith(f"no image file in {tmp_path / 'nih'}")
    assert reasons[names[3]] == "not a regular file"
    assert dataset.manifest.rejected == 4
    assert dataset.manifest.rows == 20


def test_a_limit_of_rejected_films_is_raised_without_beginning_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 10)
    names = write_release(tmp_path / "nih", films=80)
    for name in (names[3], names[60]):
        (tmp_path / "nih" / "images" / name).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"at least 2 of 80 films"):
        run(tmp_path / "nih", tmp_path / "out", max_rejected=0.02)
    with pytest.raises(UserError, match=rf"at least 1 of 80 films .*{names[3]}"):
        run(tmp_path / "nih", tmp_path / "out", max_rejected=0.01)
    dataset = run(tmp_path / "nih", tmp_path / "out", max_rejected=0.03)
    assert "resuming after an interruption" in capsys.readouterr().err
    assert rejected(dataset).keys() == {names[3], names[60]}


def test_too_many_rejected_films_stop_it_and_leave_nothing(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    (tmp_path / "nih" / "images" / names[7]).unlink()
    with pytest.raises(UserError, match=rf"1 of 24 films of .* max_rejected=0.01 allows \({names[7]}: no image file"):
        run(tmp_path / "nih", tmp_path / "out")
    shutil.rmtree(tmp_path / "nih" / "images")
    with pytest.raises(UserError, match="24 of 24 films"):
        run(tmp_path / "nih", tmp_path / "out", max_rejected=1)
    assert [path.name for path in tmp_path.iterdir()] == ["nih"]


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
        ({"split": "lists"}, "split=lists without both is out of range: expected train_list and test_list"),
        ({"lists": ListConfig(val_list="v")}, "val_list with split=official: give split=lists too, or no lists"),
    ],
)
def test_settings_out_of_range_are_one_line(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PreprocessConfig(source="nih", out="out", **setting)


def test_boxes_are_kept_for_the_films_that_there_are(tmp_path: Path) -> None:
    names = write_release(tmp_path / "nih", films=24)
    (tmp_path / "nih" / "images" / names[2]).write_bytes(b"")
    rows = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    rows += [f"{name},Infiltrate,10.5,20,300.25,400" for name in (names[1], names[2], names[20], "99999999_000.png")]
    (tmp_path / "nih" / "BBox_List_2017.csv").write_text("\n".join(rows))
    dataset = run(tmp_path / "nih", tmp_path / "out", max_rejected=0.1)
    assert read_boxes(dataset) == [
        FindingBox(name, "Infiltration", 10.5, 20, 300.25, 400, 1024, 1024) for name in (names[1], names[20])
    ]
    assert dataset.manifest.notes == ("3 of the 4 boxes around findings are on films that have a split.",)
    assert "BBox_List_2017.csv" in dataset.manifest.sources
    boxes = tmp_path / "out" / "boxes.csv"
    boxes.write_text(boxes.read_text().replace("10.5", "11.5"))
    with pytest.raises(UserError, match=r"boxes\.csv is damaged: its SHA-256 differs"):
        verify_dataset(dataset.path)
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("boxes.csv", "../../boxes.csv"))
    with pytest.raises(UserError, match=r"'\.\./\.\./boxes\.csv' is not a plain file name"):
        verify_dataset(dataset.path)


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


def test_out_may_be_a_link_to_an_older_data_set(tmp_path):
    write_release(tmp_path / "films")
    (tmp_path / "disk").mkdir()
    run(tmp_path / "films", tmp_path / "disk" / "set")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    made = run(tmp_path / "films", tmp_path / "link", split="random", seed=3)
    assert (tmp_path / "link").is_symlink()
    assert verify_dataset(tmp_path / "disk" / "set").digest == made.digest
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["set"]


@pytest.mark.parametrize("split", ["random", "lists"])
def test_a_folder_without_the_official_lists_is_divided_by_other_rules(tmp_path, split):
    write_release(tmp_path / "films")
    lists = {"lists": ListConfig(train_list=str(tmp_path / "own_train.txt"), test_list=str(tmp_path / "own_test.txt"))}
    for name in ("train_val_list", "test_list"):
        (tmp_path / "films" / f"{name}.txt").rename(tmp_path / f"own_{name.split('_')[0]}.txt")
    made = run(tmp_path / "films", tmp_path / "out", split=split, **(lists if split == "lists" else {}))
    assert made.manifest.split_rule.rule == split
    assert made.manifest.rows == 20
    with pytest.raises(UserError, match="split=random or split=lists"):
        run(tmp_path / "films", tmp_path / "other")
