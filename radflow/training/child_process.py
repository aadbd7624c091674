"""A training in a child process: it is followed by its history file, epoch by epoch, and stopped if told so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from radflow.config import command_line
from radflow.processes import ends_with_parent, stop
from radflow.training.config import TrainingConfig
from radflow.training.history import HISTORY_FILE, read_epochs

OUTPUT_FILE = "output.log"
PATIENCE = 60.0
"""Seconds that a training that was told to stop is given; its ranks close their MLflow run meanwhile."""
_LOOK_EVERY = 0.2

Epoch = dict[str, float | None]


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    code: int
    """Its exit code."""
    was_stopped: bool
    """Whether it was told to stop."""
    last_line: str
    """The last line of its output."""


def training_command(config: TrainingConfig, entry_point: str = "distributed") -> list[str]:
    """The command of a training: the entry point that users call, in a process of its own."""
    return [sys.executable, "-m", "radflow", entry_point, *command_line(config)]


def follow_training(
    command: list[str],
    folder: Path,
    variables: Mapping[str, str],
    should_continue: Callable[[Epoch], bool],
    on_poll: Callable[[], None],
) -> Ended:
    """Run a training whose `out` is `folder`, and stop it after the first epoch for which `should_continue` is false.

    `on_poll` is called several times a second. The training and all its ranks end with this function however it ends,
    and with this process if that is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT_FILE).open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables, "RADFLOW_PROGRESS": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ends_with_parent(),
        )
    try:
        was_stopped = not all(should_continue(epoch) for epoch in _epochs(process, folder, on_poll))
    finally:
        code = stop(process, PATIENCE)
    return Ended(code, was_stopped, _last_line(folder / OUTPUT_FILE))


def _epochs(process: subprocess.Popen[bytes], folder: Path, on_poll: Callable[[], None]) -> Iterator[Epoch]:
    """Each epoch once, soon after it ended, until the process has ended."""
    seen = 0
    while True:
        has_ended = process.poll() is not None  # asked before reading: what is written before the end is read
        for path in folder.glob(f"*/{HISTORY_FILE}"):
            for epoch in list(read_epochs(path))[seen:]:
                seen += 1
                yield epoch
        if has_ended:
            return
        on_poll()
        time.sleep(_LOOK_EVERY)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
