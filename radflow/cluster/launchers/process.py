"""The process of a launcher: where its program is, and how it is told to stop."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from radflow.cluster.launchers.job_watch import JobWatch
from radflow.errors import Interrupted, UserError, signals_to_stop
from radflow.processes import ends_with_parent, kill_tree

STOP_SECONDS = 25.0
"""What ranks have to end in once they are told to stop; Slurm kills after 30 s."""
KILL_SECONDS = 10.0
"""What a launching program has to end in after SIGTERM; where a host is cut off, it would wait for it for ever."""
_LOOK_EVERY = 0.5
_CHUNK = 64 * 2**10


def find_program(name: str) -> str:
    """Path of a program of this Python's environment, or of PATH; raises UserError where there is none."""
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if not found:
        raise UserError(
            f"{name} is neither beside {sys.executable} nor on PATH; run `make setup`, or see `radflow doctor`"
        )
    return found


def run_until_stopped(
    line: Sequence[str], environment: Mapping[str, str], stop_signal: signal.Signals, watch: JobWatch
) -> int:
    """Run a command in a process group of its own and return its exit code; told to stop, tell it by `stop_signal`.

    Ranks must hear of it from one side only: a Ctrl-C of the terminal would reach them, mpirun and us at once. They
    have some seconds to write a checkpoint, however often this process is told; after these the command is ended, and
    at once where `watch` finds that ranks do not get on.
    """
    if os.geteuid() == 0:
        # Containers run as root; Open MPI refuses that unless told twice, here and on remote nodes.
        twice = ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM")
        environment = {**environment, **{f"{owner}_{name}": "1" for owner in ("OMPI", "PRTE") for name in twice}}
    with subprocess.Popen(
        line,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=ends_with_parent(),
    ) as process:
        received = _supervise(process, stop_signal, watch)
    if received:
        raise Interrupted(received[0])
    return process.returncode


def _supervise(process: subprocess.Popen[bytes], stop_signal: signal.Signals, watch: JobWatch) -> list[int]:
    """See a process to its end; returns the signals by which this one was told to stop meanwhile."""
    received: list[int] = []
    deadline = _Deadline(process)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not received:
            process.send_signal(stop_signal)
            deadline.set(STOP_SECONDS)
        received.append(number)

    previous = {number: signal.signal(number, stop) for number in signals_to_stop()}
    try:
        for _ in _pass_on_output(process, watch):
            if watch.must_end():
                deadline.set(0)
            deadline.keep()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return received


class _Deadline:
    """When a process is ended that does not end by itself: by SIGTERM, and later with all its children by SIGKILL."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._at: float | None = None
        self._told = False

    def set(self, seconds: float) -> None:
        """End the process in so many seconds; what was set before stays."""
        self._at = time.monotonic() + seconds if self._at is None else self._at

    def keep(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._at is None or now < self._at:
            return
        if not self._told:
            self._process.terminate()
            self._told = True
        elif now > self._at + KILL_SECONDS:
            kill_tree(self._process.pid)


def _pass_on_output(process: subprocess.Popen[bytes], watch: JobWatch) -> Iterator[None]:
    """Show what the process writes, as `watch` lets it through, until it has ended; yields several times a second."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, (watch.take_output, sys.stdout))  # type: ignore[arg-type]
        selector.register(process.stderr, selectors.EVENT_READ, (watch.take_errors, sys.stderr))  # type: ignore[arg-type]
        while True:
            has_ended = process.poll() is not None  # asked before reading: what is written before the end is read
            ready = selector.select(0 if has_ended else _LOOK_EVERY)
            for key, _ in ready:
                take, shown_on = key.data
                if chunk := os.read(key.fd, _CHUNK):
                    with suppress(BrokenPipeError):
                        shown_on.buffer.write(take(chunk))
                        shown_on.buffer.flush()
                else:
                    selector.unregister(key.fileobj)
            if has_ended and not ready:  # a process that is left may hold the pipes open
                return
            yield
