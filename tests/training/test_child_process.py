"""A training in a child process is followed epoch by epoch, and no process of it outlives who follows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from radflow.training.child_process import OUTPUT_FILE, follow_training

FAKE = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "fake_training.py")]


def command(folder: Path, **flags: object) -> list[str]:
    return [*FAKE, f"--out={folder}", *(f"--{name}={value}" for name, value in flags.items())]


def follow(folder: Path, keep: int = 99, **flags: object) -> tuple[list[float | None], int, bool, str]:
    """Follow a training for `keep` epochs at most: the epochs seen, exit code, whether it was stopped, last words."""
    seen: list[float | None] = []

    def should_continue(epoch: dict[str, float | None]) -> bool:
        seen.append(epoch["epoch"])
        return len(seen) < keep

    ended = follow_training(command(folder, **flags), folder, {}, should_continue, lambda: None)
    return seen, ended.code, ended.was_stopped, ended.last_line


def test_each_epoch_is_seen_once(tmp_path: Path) -> None:
    assert follow(tmp_path, base_lr=1e-5, epochs=4) == ([1, 2, 3, 4], 0, False, "")


def test_a_failed_training_tells_why(tmp_path: Path) -> None:
    seen, code, was_stopped, words = follow(tmp_path, base_lr=1.0)
    assert (seen, code, was_stopped) == ([], 1, False)
    assert words == "failed: the loss is not finite in epoch 1"
    assert words in (tmp_path / OUTPUT_FILE).read_text()


def test_a_stopped_training_ends_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    seen, code, was_stopped, _ = follow(tmp_path, keep=2, epochs=100)
    assert (seen, code, was_stopped) == ([1, 2], -signal.SIGTERM, True)


FOLLOW_FOR_EVER = """
import sys
from pathlib import Path
from radflow.training.child_process import follow_training
sleeper = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
follow_training([sys.executable, "-c", sleeper], Path(sys.argv[1]), {}, lambda epoch: True, lambda: None)
"""


def test_a_training_ends_when_its_follower_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOLLOW_FOR_EVER, str(tmp_path)]) as follower:
        training = wait_for_child(follower.pid)
        os.kill(follower.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs([training], timeout=20)
    assert gone
    assert not alive


def wait_for_child(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if children := psutil.Process(pid).children():
            return children[0]
        time.sleep(0.05)
    raise AssertionError("no training was started")
