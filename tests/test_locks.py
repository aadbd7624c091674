"""Locks between processes: held by one at a time, and released by the kernel when their holder is killed."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from radflow.errors import UserError
from radflow.locks import lock_at_once, only_one_process

HOLDER = """
import sys
from pathlib import Path
from radflow.locks import only_one_process
with only_one_process(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(lock: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_lock_of_a_killed_process_is_free(tmp_path):
    lock = tmp_path / "folder" / "lock"
    with start_holder(lock) as holder, lock.open("a") as file:
        with pytest.raises(BlockingIOError):
            lock_at_once(file)
        holder.kill()
        holder.wait()
        lock_at_once(file)


def test_waits_for_the_holder(tmp_path):
    lock = tmp_path / "lock"
    with start_holder(lock) as holder:
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        holder.communicate()  # its standard input ends, and so does it
        assert waiting.wait(30) == 0
    with only_one_process(lock):
        pass


def test_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = tmp_path / "lock"
    told = pytest.raises(UserError, match=r"lock cannot be locked \(Operation not supported\); expected .* flock")
    with told, only_one_process(lock):
        pass
