"""Ranks that would not train the same, as on hosts with different copies: told once, by name, before the first step."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_entry_point, runs_of, user_environment
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow

TRAINING = "--arch=vgg16 --epochs=1 --gbz=32 --lbz=16 --threads=1"


@pytest.fixture
def hosts(workplace: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder for each of two ranks, as their hosts would have, with the same dataset in both."""
    for name in ("host0", "host1"):
        shutil.copytree(workplace / "dataset", tmp_path / name / "dataset")
    return tmp_path / "host0", tmp_path / "host1"


def train_on(hosts: tuple[Path, Path], flags: str = TRAINING) -> subprocess.CompletedProcess[str]:
    """Start two ranks as a scheduler would, each in its own host's folder."""
    folder = hosts[0].parent
    rank = f'cd "host$OMPI_COMM_WORLD_RANK" && exec {sys.executable} -m radflow distributed --data=dataset {flags}'
    as_root = {f"{owner}_ALLOW_RUN_AS_ROOT{word}": "1" for owner in ("OMPI", "PRTE") for word in ("", "_CONFIRM")}
    mpirun = Path(sys.executable).parent / "mpirun"
    return subprocess.run(
        [mpirun, "-np", "2", "--host", "localhost:2", "--bind-to", "none", "sh", "-c", rank],
        cwd=folder,
        env={**user_environment(folder), **(as_root if os.geteuid() == 0 else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def preprocess_anew(workplace: Path, host: Path, seed: int, invert: bool) -> None:
    """Another dataset on one host: one film inverted, or other patients in the validation part."""
    films = Path(shutil.copytree(workplace / "films", host / "films"))
    film = min((films / "images").iterdir())
    if invert:
        ImageOps.invert(Image.open(film)).save(film)
    flags = ("--source=films", "--out=dataset", "--image_size=32", f"--seed={seed}")
    run_entry_point(host, "preprocess", *flags).check_returncode()


def assert_told_once(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    for word in (*words, f"{platform.node()} (rank 0)", f"{platform.node()} (rank 1)"):
        assert word in errors[0], errors[0]


@pytest.mark.parametrize(
    ("seed", "invert"),
    [
        pytest.param(0, True, id="other pixels"),
        pytest.param(1, False, id="other lengths", marks=pytest.mark.long),
    ],
)
def test_different_data_sets(workplace: Path, hosts: tuple[Path, Path], seed: int, invert: bool) -> None:
    preprocess_anew(workplace, hosts[1], seed, invert)
    assert_told_once(train_on(hosts), "different datasets")
    assert not [run for run in runs_of(hosts[0].parent) if "radflow.arch" in run.data.tags]


@pytest.mark.long
def test_different_config_files(hosts: tuple[Path, Path]) -> None:
    for host, ema in zip(hosts, ("0.9", "0.5"), strict=True):
        (host / "settings.yaml").write_text(f"ema: {ema}\n")
    assert_told_once(train_on(hosts, f"{TRAINING} --config=settings.yaml"), "settings", "ema=0.9 on", "ema=0.5 on")


def test_a_data_set_that_one_host_lacks(hosts: tuple[Path, Path]) -> None:
    shutil.rmtree(hosts[1] / "dataset")
    ended = train_on(hosts)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stderr
    assert f"no dataset at {hosts[1] / 'dataset'}" in errors[0]
