"""Locks between processes, each an empty file: the kernel releases them when a process ends, however it ends.

They hold between the processes of one machine, and of several where a shared file system has `flock` (NFS, CephFS,
Lustre mounted with `flock`); one without it is refused. The file stays, since removing it would let two processes hold
"the" lock.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from radflow.errors import UserError


@contextmanager
def only_one_process(lock: Path) -> Iterator[None]:
    """Wait for the other processes that hold the file `lock`, and hold it; the file is made if it is absent.

    Raises UserError where the file system has no locks, and OSError where the file cannot be opened.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        _flock(file, fcntl.LOCK_EX)
        yield


def lock_at_once(file: IO[Any]) -> None:
    """Lock an open file until it is closed or the process ends.

    Raises BlockingIOError where another process holds it, and UserError where the file system has no locks.
    """
    _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _flock(file: IO[Any], operation: int) -> None:
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise UserError(
            f"{file.name} cannot be locked ({error.strerror}); expected a file system with flock: use a local disk, or "
            "have the shared one mounted with locks"
        ) from error
