"""Hashes of a dataset's files, computed before they are used: once a machine, and again when a file has changed.

What has been hashed is remembered in the cache folder by inode, size and time of change, which no copy and no write
leaves as it was. Where that folder cannot be written, files are hashed each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from radflow.data.dataset.manifest import ShardEntry, TableEntry
from radflow.errors import UserError
from radflow.files import atomic_file, cache_folder, read_json, sha256_file
from radflow.terminal import say

TOLD_FROM_BYTES = 2**30
"""Files together from which a person is told why nothing happens for seconds."""

Entry = ShardEntry | TableEntry


def verify_once(folder: Path, entries: Sequence[Entry]) -> None:
    """Compare the files of a dataset with their hashes, but for those that were on this machine and did not change.

    Raises `UserError` that names the first damaged one.
    """
    known = _remembered(folder)
    new = [entry for entry in entries if known.get(entry.file) != _state(folder, entry)]
    if not new:
        return
    if (size := sum(entry.bytes for entry in new)) >= TOLD_FROM_BYTES:
        say(f"comparing {size / 1e9:.1f} GB of {folder} with their hashes, once on this machine")
    verify(folder, new)


def verify(folder: Path, entries: Sequence[Entry], progress: Callable[[int, int], None] | None = None) -> None:
    """Compare files of a dataset with their hashes; raises `UserError` that names the first damaged one.

    `progress` is called with the files read so far and with all.
    """
    states = {entry.file: _state(folder, entry) for entry in entries}  # asked first: what changes later is not it
    for number, entry in enumerate(entries):
        if progress is not None:
            progress(number, len(entries))
        if sha256_file(folder / entry.file) != entry.sha256:
            damaged = folder / entry.file
            raise UserError(f"file {damaged} is damaged: its SHA-256 differs from the manifest; copy it again")
    with suppress(OSError), atomic_file(_record(folder)) as temporary:
        temporary.write_text(json.dumps(_remembered(folder) | states))


def _record(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "verified" / f"{name}.json"


def _remembered(folder: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        known = read_json(_record(folder))
        if isinstance(known, dict):
            return known
    return {}


def _state(folder: Path, entry: Entry) -> list[object]:
    """What is different when the file, or what the manifest says of it, has changed."""
    found = (folder / entry.file).stat()
    return [entry.sha256, found.st_ino, found.st_size, found.st_ctime_ns]
