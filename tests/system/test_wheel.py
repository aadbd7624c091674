"""An installed wheel, without a checkout, trains on ranks, logs, promotes, predicts and serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import REPOSITORY, runs_of, user_environment

pytestmark = pytest.mark.long


def run(line: Sequence[str | Path], folder: Path) -> str:
    """Standard output of a command in a folder that is no checkout."""
    environment = {name: value for name, value in user_environment(folder).items() if name != "PYTHONPATH"}
    ended = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the wheel, which has everything else from the environment of the tests."""
    uv = os.environ.get("UV") or shutil.which("uv") or REPOSITORY / ".tools" / "bin" / "uv"
    folder = tmp_path_factory.mktemp("installed")
    built = [REPOSITORY / uv, "build", "--quiet", "--wheel", f"--out-dir={folder}", REPOSITORY]
    subprocess.run(built, check=True)
    (wheel,) = folder.glob("radflow-*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([REPOSITORY / uv, "pip", "install", "--quiet", "--no-deps", f"--python={python}", wheel], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Python does not follow what the .pth files of such a folder say, so that the editable radflow stays out.
    (packages / "others.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    return python


def test_an_installed_wheel_does_the_main_job(python: Path, tmp_path: Path) -> None:
    imported = "import radflow, importlib.util as util; print(radflow.__file__, util.find_spec('entrypoints'))"
    (package, entrypoints) = run([python, "-c", imported], tmp_path).split()
    assert Path(package).is_relative_to(python.parents[1])
    assert entrypoints == "None"

    radflow = python.with_name("radflow")
    run([radflow, "sample", "--out=films", "--films=240", "--seed=3"], tmp_path)
    run([radflow, "preprocess", "--source=films", "--out=dataset", "--image_size=32"], tmp_path)
    training = ("--data=dataset", "--arch=vgg16", "--epochs=1", "--gbz=32", "--lbz=16", "--np=2")
    run([python, "-m", "radflow", "distributed", *training], tmp_path)
    (trained,) = [run for run in runs_of(tmp_path) if "radflow.arch" in run.data.tags]
    assert (trained.info.status, trained.data.params["cfg/ranks"]) == ("FINISHED", "2")

    assert "minimum AUC" in run([radflow, "promote", "--arch=vgg16"], tmp_path)

    model = f"models:/{trained.outputs.model_outputs[0].model_id}"
    run([radflow, "predict", f"--model={model}", "--input=films/images", "--output=predicted.csv"], tmp_path)
    table = pd.read_csv(tmp_path / "predicted.csv")
    assert (len(table), table["error"].isna().all()) == (240, True)
    served = f"import mlflow; model = mlflow.pyfunc.load_model({model!r}); print(*model.predict(model.input_example))"
    assert "above/Atelectasis" in run([python, "-c", served], tmp_path)
