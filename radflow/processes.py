"""Child processes that do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def ends_with_parent() -> Callable[[], None]:
    """A `preexec_fn` for subprocess.Popen: the kernel sends the child SIGTERM when this process dies, even by SIGKILL.

    Linux counts the death of the thread that started the child (prctl(2)), so start it in the main thread.
    """
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(128 + signal.SIGTERM)

    return in_child


def end_with_mlflow_run() -> None:
    """Let the kernel send this process SIGTERM when the `mlflow run` that has started it dies, however that dies.

    SIGTERM to `mlflow run` alone would leave its training behind. A process that a shell has started is left alone: it
    may be meant to outlive its terminal.
    """
    parent = mlflow_run_above() if "MLFLOW_RUN_ID" in os.environ else None
    if parent is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent.pid:  # it died before it could be watched
            os.kill(os.getpid(), signal.SIGTERM)


def mlflow_run_above() -> psutil.Process | None:
    """The `mlflow run` that is the parent of this process, if it is."""
    with suppress(psutil.Error):
        parent = psutil.Process(os.getppid())
        if any(Path(word).name == "mlflow" for word in parent.cmdline()[:3]):
            return parent
    return None


def stop(process: subprocess.Popen[bytes], patience: float) -> int:
    """End a child by SIGTERM, and after `patience` seconds it and all its descendants by SIGKILL; its exit code."""
    if process.poll() is not None:
        return process.returncode
    process.terminate()
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        return process.wait()


def kill_tree(pid: int) -> None:
    """End a process and all its descendants by SIGKILL; those that have ended meanwhile are no error."""
    with suppress(psutil.NoSuchProcess):
        for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def kill_later(process: psutil.Process, seconds: float) -> None:
    """Let a process that outlives this one end another by SIGKILL in so many seconds, if that has not ended by then."""
    script = f"import psutil, time; process = psutil.Process({process.pid}); time.sleep({seconds}); process.kill()"
    nowhere = subprocess.DEVNULL
    line = [sys.executable, "-c", script]
    subprocess.Popen(line, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def started_at(pid: int) -> float | None:
    """When a running process was started, in seconds since 1970; None where there is no such process.

    With the pid it names a process for good: pids are used again.
    """
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
