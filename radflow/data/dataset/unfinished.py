"""A dataset that is not whole yet, which a process that was killed leaves behind and the next one resumes.

The folder `.NAME.partial` holds the shards that are whole in `dataset`, and beside it a journal: one line that says
what is being made, then one line a shard, with its SHA-256 and the films that it lacks. A shard counts when its line is
written; what a killed process was at beyond that is removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from radflow.data.dataset.manifest import ShardEntry
from radflow.errors import UserError
from radflow.files import sha256_file
from radflow.locks import lock_at_once
from radflow.terminal import say

_JOURNAL = "journal.jsonl"
_DATASET = "dataset"
_BAD_LINE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a line raises that was cut short or damaged."""


@dataclass(frozen=True)
class WholeShard:
    """What the journal says of a shard."""

    number: int
    entry: ShardEntry | None
    """None where every film of the shard was rejected."""
    rejections: dict[int, str]
    """Reasons, by row of the table."""
    left_out: dict[int, str]


class Unfinished:
    """The folder and the journal of a dataset in the making; see `unfinished_dataset`."""

    def __init__(self, root: Path, journal: IO[str], digest: str) -> None:
        self.folder = root / _DATASET
        self.folder.mkdir(exist_ok=True)
        self._journal = journal
        self.whole = [shard for shard in _read_journal(journal, digest) if self._is_there(shard)]
        self._clean()
        self._begin_journal(digest)

    def record(self, shard: WholeShard) -> None:
        """Say that a shard is whole; its file is on disk already."""
        self.whole.append(shard)
        self._write(asdict(shard))

    def _is_there(self, shard: WholeShard) -> bool:
        if shard.entry is None:
            return True
        file = self.folder / shard.entry.file
        return file.is_file() and sha256_file(file) == shard.entry.sha256

    def _clean(self) -> None:
        """Remove all but the whole shards."""
        kept = {shard.entry.file for shard in self.whole if shard.entry}
        for file in self.folder.iterdir():
            if file.name not in kept:
                file.unlink()

    def _begin_journal(self, digest: str) -> None:
        """Write the journal again, without a torn last line and without shards that are not there."""
        self._journal.truncate(0)
        self._write({"digest": digest}, *(asdict(shard) for shard in self.whole))

    def _write(self, *documents: dict[str, Any]) -> None:
        self._journal.write("".join(f"{json.dumps(document)}\n" for document in documents))
        self._journal.flush()
        os.fsync(self._journal.fileno())


@contextmanager
def unfinished_dataset(root: Path, digest: str) -> Iterator[Unfinished]:
    """Open the unfinished dataset at `root`, with the shards that are whole of an earlier one of the same digest.

    At the end `root` is removed: the caller has moved the dataset away. However else the block ends, the shards that
    are whole stay, since the digest says what they were made from; without any, `root` is removed. Raises `UserError`
    where another process is at it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / _JOURNAL).open("a+", encoding="utf-8") as journal:
        try:
            lock_at_once(journal)
        except BlockingIOError as error:
            raise UserError(f"another process is making this dataset in {root}; wait for it, or stop it") from error
        unfinished = Unfinished(root, journal, digest)
        try:
            yield unfinished
        except BaseException:
            if finished := sum(shard.entry is not None for shard in unfinished.whole):
                say(f"{finished} finished shards stay in {root}; the same command resumes from them")
            else:
                shutil.rmtree(root)
            raise
        shutil.rmtree(root)


def _read_journal(journal: IO[str], digest: str) -> list[WholeShard]:
    """The shards of a journal of this digest, up to a line that was cut short; none of another journal."""
    journal.seek(0)
    shards: list[WholeShard] = []
    with suppress(*_BAD_LINE):
        if json.loads(journal.readline())["digest"] == digest:
            for line in journal:
                shards.append(_parse_shard(json.loads(line)))  # noqa: PERF401  (the lines before a torn one count)
    return shards


def _parse_shard(document: dict[str, Any]) -> WholeShard:
    return WholeShard(
        number=int(document["number"]),
        entry=ShardEntry(**document["entry"]) if document["entry"] else None,
        rejections={int(row): str(reason) for row, reason in document["rejections"].items()},
        left_out={int(row): str(reason) for row, reason in document["left_out"].items()},
    )
