"""The place that a dataset is put in when it is whole: a folder on disk, or an object store."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from radflow.data.dataset.copies import copy_folder
from radflow.data.dataset.manifest import MANIFEST_NAME, REJECTED_NAME, read_manifest
from radflow.errors import UserError
from radflow.files import cache_folder, replace_folder, sha256_file
from radflow.storage import CONNECTIONS, S3Path, locate


class Destination(Protocol):
    """What the writer of a dataset needs to know of the place that it is for."""

    unfinished: Path
    """Folder on disk for the dataset while it is made."""

    def add(self, shard: Path, sha256: str) -> None:
        """Take note of a shard that is whole."""

    def finish(self, folder: Path) -> None:
        """Let the dataset exist, now that `folder` holds all of it; the folder is moved away."""

    def close(self) -> None:
        """Give up what is not under way."""


def destination_at(path: str | Path) -> Destination:
    """Look at the place for a dataset; raises `UserError` where something else is, or in a bucket anything."""
    place = locate(path)
    return _Bucket(place) if isinstance(place, S3Path) else _Folder(place)


class _Folder:
    """A folder on disk: the dataset is renamed as a whole, in place of an older one."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not (path / MANIFEST_NAME).is_file() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists and is not a dataset; name a new folder for the output")
        path = path.resolve()  # of a link, what it points to is replaced
        self.unfinished = path.with_name(f".{path.name}.partial")
        self._path = path

    def add(self, shard: Path, sha256: str) -> None:
        pass

    def finish(self, folder: Path) -> None:
        replace_folder(folder, self._path)

    def close(self) -> None:
        pass


class _Bucket:
    """A prefix in an object store: shards are sent while others are made, the manifest last.

    Nothing can be renamed there, so that an older dataset is not replaced. What was made stays as this machine's copy.
    """

    def __init__(self, remote: S3Path) -> None:
        if (remote / MANIFEST_NAME).is_stored():
            raise UserError(f"{remote} holds a dataset already; give out= another prefix, or remove what is there")
        name = hashlib.sha256(str(remote).encode()).hexdigest()[:16]
        self.unfinished = cache_folder() / "uploads" / name
        self._remote = remote
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="upload")
        self._waiting: deque[Future[None]] = deque()

    def add(self, shard: Path, sha256: str) -> None:
        """Send a shard, unless an interrupted upload has sent it; raises what went wrong with an earlier one."""
        self._waiting.append(self._pool.submit(self._send, shard, sha256))
        self._wait_for_all_but(CONNECTIONS)

    def finish(self, folder: Path) -> None:
        self._wait_for_all_but(0)
        tables = [table.file for table in read_manifest(folder).tables]
        for name in (*tables, REJECTED_NAME, MANIFEST_NAME):
            self._send(folder / name, sha256_file(folder / name))
        copy = copy_folder(sha256_file(folder / MANIFEST_NAME))
        copy.parent.mkdir(parents=True, exist_ok=True)
        replace_folder(folder, copy)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _send(self, file: Path, sha256: str) -> None:
        target = self._remote / file.name
        if not target.is_stored(sha256):
            target.upload(file, sha256)

    def _wait_for_all_but(self, ahead: int) -> None:
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > ahead):
            self._waiting.popleft().result()
