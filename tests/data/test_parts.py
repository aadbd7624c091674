"""A dataset of images that several machines have made is that of one, byte for byte."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from nih_folder import png_bytes, write_release
from tcia_folder import TciaFolder, made_film

from radflow.data import parts
from radflow.data.config import PreprocessConfig
from radflow.data.decoding import decode_films
from radflow.data.parts import make_units, unit_file, units_of
from radflow.data.preprocess import plan_dataset, preprocess, resolve
from radflow.data.readers import film_files
from radflow.errors import JobError

HOSTS = 3

decode = partial(decode_films, size=32, fit="squash", workers=1)


def config_of(source: Path, out: Path, **settings: object) -> PreprocessConfig:
    given = {"source": str(source), "out": str(out), "image_size": 32, "workers": 1, "max_rejected": 0.5, **settings}
    return resolve(PreprocessConfig(**given))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_hosts_make_the_same(source: Path, workplace: Path) -> int:
    """Let hosts make the units, one after the other and the last first; returns the number of units."""
    alone = preprocess(config_of(source, workplace / "alone"))
    config, folder = config_of(source, workplace / "together"), workplace / "units"
    for host in reversed(range(HOSTS)):
        _, plan = plan_dataset(config)  # as each host does
        make_units(plan, range(host, len(units_of(plan)), HOSTS), folder, decode, remote=False)
    together = preprocess(config, units=folder)
    assert contents(together.path) == contents(alone.path)
    return len(units_of(plan))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A release in a folder, two archives and a zip: a film is damaged, one is nowhere, and one is in both archives."""
    names = write_release(tmp_path / "nih", films=24)
    folder = tmp_path / "nih"
    images = folder / "images"
    (images / names[0]).write_bytes((images / names[0]).read_bytes()[:-40])
    (images / names[1]).unlink()
    with tarfile.open(folder / "images_001.tar.gz", "w:gz") as packed:
        for name in names[2:8]:
            packed.add(images / name, f"images/{name}")
    (images / names[7]).write_bytes(png_bytes(np.zeros((48, 48), np.uint8)))  # of one name, and other pixels
    with tarfile.open(folder / "images_002.tar.gz", "w:gz") as packed:
        for name in names[7:12]:
            packed.add(images / name, f"images/{name}")
        link = tarfile.TarInfo("images/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    with zipfile.ZipFile(folder / "archive.zip", "w") as zipped:
        for name in names[12:16]:
            zipped.write(images / name, f"images/{name}")
    for name in names[2:16]:
        (images / name).unlink()
    return folder


def test_archives_and_folders_are_divided_over_hosts(mixed: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(film_files, "FILMS_OF_A_UNIT", 4)
    # Nine films lie in the folder: three blocks; and there are three archives.
    assert assert_hosts_make_the_same(mixed, tmp_path) == 6


def test_crops_of_mammograms_are_divided_by_patients(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "PATIENT_UNITS", 5)
    release = TciaFolder(tmp_path / "cbis")
    for number in range(6):
        box = (10 + number, 12, 30, 34)
        name = f"Mass-{'Test' if number > 3 else 'Training'}_P_{number:05}_LEFT_CC"
        release.add_film(name, (box,), film=made_film(number, (box,)))
    release.write_csvs()
    assert assert_hosts_make_the_same(tmp_path / "cbis", tmp_path) == 5


def test_units_that_are_whole_are_not_made_again(mixed: Path, tmp_path: Path) -> None:
    config, folder = config_of(mixed, tmp_path / "out"), tmp_path / "units"
    _, plan = plan_dataset(config)
    numbers = range(len(units_of(plan)))
    make_units(plan, numbers, folder, decode, remote=False)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    unit_file(folder, 1).unlink()
    make_units(plan, numbers, folder, decode, remote=False)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {unit_file(folder, 1).name}


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_unit_that_is_not_whole_is_told(mixed: Path, tmp_path: Path, damage: str) -> None:
    config, folder = config_of(mixed, tmp_path / "out"), tmp_path / "units"
    _, plan = plan_dataset(config)
    make_units(plan, range(len(units_of(plan))), folder, decode, remote=False)
    file = unit_file(folder, 1)
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20000])
    with pytest.raises(JobError, match=r"unit-00001.arrow is not whole .* give the same command again"):
        preprocess(config, units=folder)
    shutil.rmtree(folder)
