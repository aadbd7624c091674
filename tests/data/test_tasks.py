"""A task of one's own goes from preprocessing to the family of models."""

from __future__ import annotations

from pathlib import Path

import pytest
from nih_folder import write_release

from radflow.data.config import PreprocessConfig
from radflow.data.preprocess import preprocess
from radflow.errors import UserError


@pytest.mark.parametrize(("given", "expected"), [("auto", "chest"), ("chexpert", "chexpert")])
def test_the_manifest_has_the_task(given: str, expected: str, tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=24)
    config = PreprocessConfig(
        source=str(tmp_path / "nih"), out=str(tmp_path / "out"), image_size=32, workers=1, task=given
    )
    assert preprocess(config).manifest.task == expected


@pytest.mark.parametrize("task", ["Knee", "knee mri", "", "radflow-knee", "../knee"])
def test_what_cannot_be_part_of_a_model_s_name_is_refused(task: str) -> None:
    with pytest.raises(UserError, match="must be a word of small letters, digits and _, such as chest"):
        PreprocessConfig(task=task)
