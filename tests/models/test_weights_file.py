from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import pytest

from radflow.errors import UserError
from radflow.models.weights_file import check_weights_file


def test_readable_files_and_words_pass(tmp_path: Path) -> None:
    h5py.File(tmp_path / "body.weights.h5", "w").close()
    zipfile.ZipFile(tmp_path / "model.keras", "w").close()
    for weights in ("none", "imagenet", tmp_path / "body.weights.h5", tmp_path / "model.keras"):
        check_weights_file(str(weights))


@pytest.mark.parametrize("name", ["body.weights.h5", "model.keras"])
@pytest.mark.parametrize("content", [b"", b"neither HDF5 nor an archive"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read") as error:
        check_weights_file(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.h5 is not a file"):
        check_weights_file(str(tmp_path / "nowhere.h5"))
