"""A sample of the mutations of `benchmarks/mutated_files`, which end in a right answer or in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.mutated_files", "--count=200", "--workers=1"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].split()[:2] == ["all", "200"]
