"""What reaches the terminal: lines by their level, and nothing of TensorFlow's greetings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from radflow.errors import UserError
from radflow.terminal import say, show_log, warn

IMPORT = """
import os
from radflow.cluster.threads import set_threads
from radflow.terminal import import_tensorflow
set_threads(1)
import_tensorflow()
os.write(2, b"computing\\n")
"""
PRETENDED = """
import os
os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may see\\n")
os.write(2, b"F0000 cpu_feature_guard.cc:164] this CPU has no AVX\\n")
os.abort()
"""


def said(**environment: str) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-c", IMPORT], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )
    return process.stderr.splitlines()


def test_tensorflow_is_imported_without_a_word() -> None:
    assert said() == ["computing"]


def test_what_tensorflow_says_before_it_aborts_is_seen(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(PRETENDED)
    assert said(PYTHONPATH=str(tmp_path)) == ["F0000 cpu_feature_guard.cc:164] this CPU has no AVX"]


@pytest.mark.parametrize(("level", "told"), [("INFO", "going\nwarning: gone\n"), ("warning", "warning: gone\n")])
def test_lines_are_told_from_the_chosen_level_on(
    level: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RADFLOW_LOG_LEVEL", level)
    show_log()
    say("going")
    warn("gone")
    monkeypatch.delenv("RADFLOW_LOG_LEVEL")
    show_log()
    assert capsys.readouterr().err == told


def test_a_level_that_there_is_not_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADFLOW_LOG_LEVEL", "loud")
    with pytest.raises(UserError, match=r"^RADFLOW_LOG_LEVEL=LOUD is not a level; expected one of .*WARNING"):
        show_log()
