"""The process of a launcher: where its program is, and how it is told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from radflow.errors import Interrupted, UserError, signals_to_stop
from radflow.processes import ends_with_parent

STOP_SECONDS = 25.0
"""What ranks have to end in once they are told to stop; Slurm kills after 30 s."""


def find_program(name: str) -> str:
    """Path of a program of this Python's environment, or of PATH; raises UserError where there is none."""
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if not found:
        raise UserError(
            f"{name} is neither beside {sys.executable} nor on PATH; run `make setup`, or see `radflow doctor`"
        )
    return found


def run_until_stopped(line: Sequence[str], environment: Mapping[str, str], stop_signal: signal.Signals) -> int:
    """Run a command in a process group of its own, and when this process is told to stop, tell it by `stop_signal`.

    Ranks must hear of it from one side only: a Ctrl-C of the terminal would reach them, mpirun and us at once. They
    have some seconds to write a checkpoint, however often this process is told; after these the command is ended by
    SIGTERM.
    """
    if os.geteuid() == 0:
        # Containers run as root; Open MPI refuses that unless told twice, here and on remote nodes.
        twice = ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM")
        environment = {**environment, **{f"{owner}_{name}": "1" for owner in ("OMPI", "PRTE") for name in twice}}
    received: list[int] = []
    process = subprocess.Popen(line, env=dict(environment), start_new_session=True, preexec_fn=ends_with_parent())
    deadline = threading.Timer(STOP_SECONDS, process.terminate)
    deadline.daemon = True

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not received:
            process.send_signal(stop_signal)
            deadline.start()
        received.append(number)

    previous = {number: signal.signal(number, stop) for number in signals_to_stop()}
    try:
        code = process.wait()
    finally:
        deadline.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise Interrupted(received[0])
    return code
