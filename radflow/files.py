"""Files that are whole or not there: atomic writes, and hashing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, Protocol

from radflow.errors import UserError

MAX_DOCUMENT_BYTES = 16 * 2**20
"""Largest JSON or YAML file that is read; the manifest of all of ChestX-ray14 in films of 1024 pixels has 0.5 MB."""


def cache_folder() -> Path:
    """Folder of what a user's environments share and can do without: RADFLOW_CACHE, default ~/.cache/radflow."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "radflow"
    return Path(os.environ.get("RADFLOW_CACHE") or default)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` when the block ends well and else is removed.

    Where `path` is a link, what it points to is replaced, and the link stays.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which replaces `path` when the block ends well and else is removed.

    Where `path` is a link, what it points to is replaced, and the link stays.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Put a whole folder where `path` is, durably. It cannot be renamed over a filled one: that steps aside first."""
    for file in new.rglob("*"):
        _flush_to_disk(file)
    if path.exists():
        old = _temporary_name(path)
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old)
    else:
        new.rename(path)
    _flush_to_disk(path.parent)


def check_writable(path: Path) -> None:
    """Raise UserError unless a file can be written to `path`; for results that take long to compute."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; give another place") from error


def check_temporary_folder(least: int) -> None:
    """Raise UserError unless TMPDIR, or what is used without it, has room for `least` bytes of temporary files."""
    folder = os.environ.get("TMPDIR") or tempfile.gettempdir()
    fix = "set TMPDIR to a folder with room"
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"TMPDIR={folder} cannot be used: {error.strerror}; {fix}") from error
    if free < least:
        raise UserError(f"TMPDIR={folder} has {free:,} bytes free, expected at least {least:,}; {fix}")


class Openable(Protocol):
    """A file on disk, or an object in a store."""

    def stat(self) -> os.stat_result:
        """Mode, size and time of change; raises OSError."""

    def open(self, mode: Literal["rb"]) -> BufferedReader:
        """Open for reading bytes; raises OSError."""


def open_regular(path: Openable) -> BufferedReader:
    """Open a file for reading bytes; a pipe or device of its name, which could be read for ever, raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file, durably; the half line that a killed writer may have left before them is ended."""
    with path.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        torn = file.read(1) not in (b"", b"\n")
        file.write(("\n" * torn + "".join(f"{line}\n" for line in lines)).encode())
        file.flush()
        os.fsync(file.fileno())


def read_document(path: Openable) -> str:
    """Read a text file that people or programs keep settings in; raises as `read_bounded`, ValueError if not UTF-8."""
    return read_bounded(path).decode("utf-8-sig")


def read_bounded(path: Openable) -> bytes:
    """Read a small file; raises OSError for what is not a regular file or over `MAX_DOCUMENT_BYTES`."""
    with open_regular(path) as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise OSError(errno.EFBIG, f"over {MAX_DOCUMENT_BYTES:,} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Read a JSON file; raises OSError as `read_document` does, and ValueError for what is not JSON."""
    return parse_json(read_document(path))


def parse_json(content: str | bytes) -> Any:
    """Parse JSON; raises ValueError for what is none, however deeply it is nested."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file in the safe mode; raises OSError as `read_document` does, ValueError where it is not YAML."""
    import yaml

    try:
        return yaml.safe_load(read_document(path))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def sha256_file(path: Openable) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; raises OSError for what is not a regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _flush_to_disk(path: Path) -> None:
    """fsync, so that the rename never becomes durable before the bytes it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
