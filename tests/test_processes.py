"""Whose death ends an entry point: that of its `mlflow run`, and not that of a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = (
    "import pathlib, signal, sys, time\n"
    "from radflow.processes import end_with_mlflow_run\n"
    "place = pathlib.Path(sys.argv[1])\n"
    "def end(number, frame):\n"
    "    (place / 'ended').touch()\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "end_with_mlflow_run()\n"
    "(place / 'started').touch()\n"
    "time.sleep(20)\n"
)
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"


def wait_for(path: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.exists()


@pytest.mark.parametrize(
    ("program", "variables", "ends"),
    [("mlflow", {"MLFLOW_RUN_ID": "0"}, True), ("shell", {"MLFLOW_RUN_ID": "0"}, False), ("mlflow", {}, False)],
)
def test_an_entry_point_ends_with_the_mlflow_run_that_started_it(
    tmp_path: Path, program: str, variables: dict[str, str], ends: bool
) -> None:
    (tmp_path / program).write_text(PARENT)
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"} | variables
    line = [sys.executable, str(tmp_path / program), CHILD, str(tmp_path)]
    with subprocess.Popen(line, env=environment, start_new_session=True) as parent:
        assert wait_for(tmp_path / "started", 30)
        parent.kill()
    assert wait_for(tmp_path / "ended", 10 if ends else 1) == ends
    if not ends:
        os.killpg(parent.pid, signal.SIGTERM)
