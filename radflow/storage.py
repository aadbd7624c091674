"""Object stores: the objects under s3://bucket/prefix, listed and read like a folder on disk.

Requests that fail because the store cannot be reached or is busy are repeated for a while (`radflow.s3_requests`), and
a reader whose connection breaks goes on from the same byte.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, TypeVar

from radflow import s3_requests
from radflow.errors import UserError
from radflow.s3_requests import CONNECTIONS, FIRST_PAUSE, client, gone, not_found, with_retries

SCHEME = "s3://"

_READ_AHEAD = 2**20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

Task = TypeVar("Task")
Result = TypeVar("Result")


def locate(place: str | Location) -> Location:
    """The path that a source, an output or a dataset names: an `S3Path` for s3://bucket/prefix, else one on disk.

    A relative one is made absolute, since messages that show it must say where it was looked for: `mlflow run` starts
    in the project's folder, wherever it was typed.

    Raises `UserError` where the bucket does not exist, or the store does not answer or refuses the credentials.
    """
    if isinstance(place, S3Path):
        return place
    if isinstance(place, Path) or not place.startswith(SCHEME):
        return Path(place).absolute()
    path = S3Path(f"/{place.removeprefix(SCHEME)}")
    if not _BUCKET.fullmatch(path.bucket):
        raise UserError(f"{place!r} names no bucket; expected {SCHEME}bucket/prefix")
    with_retries(path, lambda: client().list_objects_v2(Bucket=path.bucket, Prefix=path.key, MaxKeys=1), patience=0)
    _sources.add(path)
    return path


class S3Path(PurePosixPath):
    """An object, or all objects under a prefix: a pure path with the operations of `Path` that are used on places.

    It may be sent to another process.

    What is there is asked once for each path that was located, so that questions about 112,120 films cost some
    hundred requests; what comes or goes later is not seen.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"s3:/{super().__str__()}" if self.root else super().__str__()

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.parts[1] if len(self.parts) > 1 else ""

    @property
    def key(self) -> str:
        """Key within the bucket; empty for the bucket itself."""
        return "/".join(self.parts[2:])

    def stat(self) -> os.stat_result:
        """Mode, size and time of change; raises FileNotFoundError."""
        found = _listing_over(self).entry(self)
        if found is None:
            raise not_found(self)
        return found

    def exists(self) -> bool:
        """Whether there is an object of this key, or one under it."""
        return _listing_over(self).entry(self) is not None

    def is_file(self) -> bool:
        """Whether there is an object of this key."""
        found = _listing_over(self).entry(self)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_dir(self) -> bool:
        """Whether there are objects under this prefix."""
        return bool(_listing_over(self).names(self))

    def iterdir(self) -> Iterator[S3Path]:
        """The objects and prefixes one level down, by name."""
        return (self / name for name in _listing_over(self).names(self))

    def glob(self, pattern: str) -> Iterator[S3Path]:
        """Paths as many levels down as the pattern has, each part of which matches."""
        first, _slash, rest = pattern.partition("/")
        for name in _listing_over(self).names(self):
            if fnmatchcase(name, first):
                yield from (self / name).glob(rest) if rest else (self / name,)

    def rglob(self, pattern: str) -> Iterator[S3Path]:
        """Paths at any level whose name matches."""
        for path in self.iterdir():
            if fnmatchcase(path.name, pattern):
                yield path
            yield from path.rglob(pattern)

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:  # noqa: ARG002 - as `Path` is called
        """Open for reading bytes, forwards or at any place; raises FileNotFoundError."""
        return io.BufferedReader(_Reader(self), _READ_AHEAD)

    def read_bytes(self) -> bytes:
        """The object's content; raises FileNotFoundError."""
        with _Reader(self) as reader:
            return reader.readall()

    def is_stored(self, sha256: str = "") -> bool:
        """Whether there is an object of this key, and of this content if `upload` put it there. Asked each time."""
        try:
            found = with_retries(self, lambda: client().head_object(Bucket=self.bucket, Key=self.key))
        except FileNotFoundError:
            return False
        return not sha256 or sha256 in found["Metadata"].values()

    def upload(self, file: Path, sha256: str) -> None:
        """Make a file of at most 5 GB, of this SHA-256, the object's content: whole or not at all."""
        with file.open("rb") as content:
            md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).digest()

        def put() -> None:
            with file.open("rb") as body:
                client().put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=body,
                    ContentMD5=base64.b64encode(md5).decode(),  # the store compares it with what has arrived
                    Metadata={"sha256": sha256},
                )

        with_retries(self, put)


Location: TypeAlias = Path | S3Path
"""A place on disk or in an object store."""


def fingerprint(source: Location) -> str:
    """Digest of the names, sizes and times of all files under a folder: it changes when a file does.

    Links to folders are followed, each folder is visited once, and hidden ones are passed over.
    """
    digest = hashlib.sha256(str(source).encode())
    for path in sorted(_files_under(source)):
        with suppress(OSError):  # a link to nothing
            found = path.stat()
            digest.update(f"\n{path} {found.st_size} {found.st_mtime}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Do `work` on tasks over `CONNECTIONS` threads, a bounded number ahead; results in order."""
    pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="storage")
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > 2 * CONNECTIONS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Reader(io.RawIOBase):
    """Bytes of an object from any place on. A broken connection is taken up at the byte where it broke."""

    def __init__(self, path: S3Path) -> None:
        self.name = str(path)
        self._path = path
        self._position = 0
        self._version: str | None = None
        self._body: Any = None
        self._connect()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position != self._position:
            self._position = position
            self._disconnect()
        return position

    def readinto(self, buffer: Any) -> int:
        content = self._read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        parts = []
        while part := self._read(self._size):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read(self, length: int) -> bytes:
        """Read at least one byte of what is left, unless nothing is."""
        from botocore.exceptions import BotoCoreError

        length = min(length, self._size - self._position)
        deadline = time.monotonic() + s3_requests.PATIENCE_SECONDS
        failure: Exception = EOFError("the connection ended early")
        while length > 0:
            try:
                if self._body is None:
                    self._connect()
                content = self._body.read(length)
                self._position += len(content)
                if content:
                    return content
            except BotoCoreError as error:
                failure = error
            if time.monotonic() > deadline:
                raise gone(self._path, failure) from failure
            self._disconnect()
            time.sleep(FIRST_PAUSE)
        return b""

    def _connect(self) -> None:
        given = {"Range": f"bytes={self._position}-"} if self._position else {}
        answer = with_retries(
            self._path, lambda: client().get_object(Bucket=self._path.bucket, Key=self._path.key, **given)
        )
        self._body = answer["Body"]
        if self._version is None:
            self._version, self._size = answer["ETag"], int(answer["ContentLength"])
        if answer["ETag"] != self._version:
            raise UserError(f"{self._path} was replaced while it was read; start again")

    def _disconnect(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


class _Listing:
    """What lies under a path: the names in each folder, and the size and time of each object."""

    def __init__(self, root: S3Path) -> None:
        self._objects: dict[str, os.stat_result] = {}
        self._folders: dict[str, set[str]] = {}
        for key, size, modified in _objects_under(root):
            text = f"{root.bucket}/{key}"
            self._objects[text] = _stat_result(stat.S_IFREG, size, modified)
            while "/" in text and text not in self._folders.get(folder := text.rpartition("/")[0], ()):
                self._folders.setdefault(folder, set()).add(text.rpartition("/")[2])
                text = folder

    def entry(self, path: S3Path) -> os.stat_result | None:
        """Size and time of an object, or of a folder; None where there is neither."""
        text = "/".join(path.parts[1:])
        return self._objects.get(text) or (_stat_result(stat.S_IFDIR, 0, 0.0) if text in self._folders else None)

    def names(self, path: S3Path) -> list[str]:
        """Names in a folder, sorted; empty for what is none."""
        return sorted(name.rpartition("/")[2] for name in self._folders.get("/".join(path.parts[1:]), ()))


_sources: set[S3Path] = set()
"""Paths that were located, each of which is listed as a whole."""


def _listing_over(path: S3Path) -> _Listing:
    """The listing of the source that the path is in; of the path itself in a process that was sent only the path."""
    return _listing(next((place for place in (path, *path.parents) if place in _sources), path))


@lru_cache(maxsize=32)
def _listing(root: S3Path) -> _Listing:
    return _Listing(root)


def _objects_under(root: S3Path) -> Iterator[tuple[str, int, float]]:
    """Key, size and time of every object under a prefix, or of the object of this key."""
    page: dict[str, Any] = {"IsTruncated": True}
    prefix, found = f"{root.key}/" if root.key else "", False
    while page["IsTruncated"]:
        following = {"ContinuationToken": page["NextContinuationToken"]} if found else {}
        listed = partial(client().list_objects_v2, Bucket=root.bucket, Prefix=prefix, **following)
        page = with_retries(root, listed)
        for entry in page.get("Contents", []):
            found = True
            if not entry["Key"].endswith("/"):  # consoles store these to show an empty folder
                yield entry["Key"], entry["Size"], entry["LastModified"].timestamp()
    if not found and root.key:
        with suppress(FileNotFoundError):
            head = with_retries(root, lambda: client().head_object(Bucket=root.bucket, Key=root.key))
            yield root.key, head["ContentLength"], head["LastModified"].timestamp()


def _stat_result(kind: int, size: int, modified: float) -> os.stat_result:
    return os.stat_result((kind | 0o444, 0, 0, 1, 0, 0, size, modified, modified, modified))


def _files_under(source: Location) -> Iterator[Location]:
    if isinstance(source, S3Path):
        yield from (path for path in source.rglob("*") if path.is_file())
        return
    visited = set()
    for name, folders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        visited.add(folder.resolve())
        folders[:] = [each for each in folders if not each.startswith(".") and (folder / each).resolve() not in visited]
        yield from (folder / file for file in files)
