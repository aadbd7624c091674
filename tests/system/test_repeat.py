"""A run repeated from what it recorded: to the last bit where it was deterministic, and refused on other data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import run_radflow, runs_of

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRAINING = ("--arch=vgg16", "--epochs=1", "--bz=32", "--threads=1", "--schedule=constant")


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_run_is_repeated_and_held_against_the_first(workplace: Path, tmp_path: Path, deterministic: bool) -> None:
    shutil.copytree(workplace / "dataset", tmp_path / "data")
    flags = ("--data=data", *TRAINING, f"--deterministic={str(deterministic).lower()}")
    run_radflow(tmp_path, "train", *flags).check_returncode()
    (first,) = runs_of(tmp_path)
    repeated = run_radflow(tmp_path, "repeat", first.info.run_id)
    assert repeated.returncode == 0, repeated.stderr
    second = runs_of(tmp_path)[0]
    assert second.data.tags["radflow.repeats"] == first.info.run_id
    if deterministic:
        assert "metrics are those of run" in repeated.stderr
        aucs = {key: value for key, value in first.data.metrics.items() if key.startswith("test/auc")}
        assert {key: second.data.metrics[key] for key in aucs if aucs[key] == aucs[key]} == {
            key: value for key, value in aucs.items() if value == value
        }
    else:
        assert "to the last bit" in repeated.stderr or "not deterministic: mean test AUC" in repeated.stderr


def test_other_data_is_refused(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(workplace / "dataset", tmp_path / "data")
    run_radflow(tmp_path, "train", "--data=data", *TRAINING).check_returncode()
    (first,) = runs_of(tmp_path)
    shutil.rmtree(tmp_path / "data")
    source = f"--source={workplace / 'films'}"
    run_radflow(tmp_path, "preprocess", source, "--out=data", "--image_size=32", "--seed=9").check_returncode()
    refused = run_radflow(tmp_path, "repeat", first.info.run_id)
    assert refused.returncode == 2
    assert "data=data has changed since run" in refused.stderr.splitlines()[-1]
    unknown = run_radflow(tmp_path, "repeat", "0" * 32)
    assert unknown.returncode == 2
    assert "is not a run of this MLflow" in unknown.stderr.splitlines()[-1]
