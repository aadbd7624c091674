"""A small phantom dataset, made once by the real commands, and a copy of the project to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from commands import REPOSITORY, Command, run_entry_point

FILMS, IMAGE_SIZE = 240, 32


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small phantom release in `films`, its dataset in `dataset`, and a tracking store."""
    folder = tmp_path_factory.mktemp("workplace")
    for line in (
        f"sample --out=films --films={FILMS} --seed=3",
        f"preprocess --source=films --out=dataset --image_size={IMAGE_SIZE}",
    ):
        run_entry_point(folder, *line.split()).check_returncode()
    return folder


@pytest.fixture
def command(workplace: Path) -> Command:
    """Runs an entry point in the workplace: command("train", "--data=dataset")."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_entry_point(workplace, *arguments, **environment)

    return run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project's files as MLflow runs them, so that a test leaves nothing in the working tree."""
    folder = tmp_path / "radflow"
    folder.mkdir()
    for name in ("MLproject", "python_env.yaml", "radflow", "entrypoints", "registry"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    return folder
