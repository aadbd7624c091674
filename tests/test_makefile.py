"""What `make` says before it begins."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"


@pytest.mark.parametrize(("folder", "advice"), [("my project", "my-project"), ("a:b", "a-b")])
def test_a_clone_where_horovod_would_not_build_is_told_so_at_once(tmp_path: Path, folder: str, advice: str) -> None:
    (tmp_path / folder).mkdir()
    shutil.copy(MAKEFILE, tmp_path / folder)
    line = ["make", "--no-print-directory", "demo"]  # which it prints where `make test` has started the tests
    ended = subprocess.run(line, cwd=tmp_path / folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert f"has a space or a colon: '{tmp_path / folder}'; move it to one without, such as {tmp_path / advice}" in line
