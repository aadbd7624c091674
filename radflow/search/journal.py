"""The journal of a study: a file of JSON lines, which survives writers that are killed and disks that are full.

Optuna's own file backend reads past a last line that was cut short, and writes the next record behind it: from then on
the line is none, nobody can read further, and each attempt adds to it. Here a writer ends such a line first, and
opening fixes a journal to which it has happened already.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from radflow.errors import JobError, UserError
from radflow.files import append_lines, atomic_file, open_regular
from radflow.terminal import say

TORN_SUFFIX = ".torn"
"""Suffix of the file beside a journal that keeps what is cut out of it."""

_RECORD_START = re.compile(rb'(?=\{"op_code":)')
"""How Optuna writes every record; inside its texts the quotes have backslashes."""
_CREATES_TRIAL = re.compile(rb'"op_code":4,|^(?!.*"trial_id").*"datetime_start"')
"""What of a record that makes a trial is left by damage elsewhere in it."""
_LOST_TRIAL = '{"op_code":4,"worker_id":"","study_id":0,"datetime_start":"2000-01-01T00:00:00"}'
"""A trial without an owner, which the search fails and repeats: it keeps the numbers of those after it."""
_BAD_RECORD = (ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError, RecursionError)
"""What Optuna raises for JSON that is not a record of a journal."""


def open_journal(path: Path) -> JournalStorage:
    """Open a journal, made if it is not there, without what killed writers left half.

    Raises UserError, with the line and the way on, for other damage, and JobError where it cannot be written.
    """
    journal = StudyJournal(path)
    journal.fix()
    try:
        return JournalStorage(journal)
    except _BAD_RECORD as error:
        raise journal.damaged(error) from error


class StudyJournal(JournalFileBackend):
    """Optuna's backend, with lines that are whole; for `open_journal`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = JournalFileSymlinkLock(str(path))
        self._line = 0  # from 1, the one that was read last
        with self._told_where_unwritable():
            super().__init__(str(path), self._held)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the records from a number on; raises UserError for a damaged one that is not the last."""
        self._line = log_number_from
        records = super().read_logs(log_number_from)
        while True:
            self._line += 1
            try:
                record = next(records)
            except StopIteration:
                return
            except (ValueError, RecursionError) as error:
                raise self.damaged(error) from error
            yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, durably; raises JobError where that is not possible."""
        with self._locked():
            self._end_last_line()
            append_lines(self._path, [json.dumps(log, separators=(",", ":")) for log in logs])

    def fix(self) -> None:
        """Give each whole record a line of its own, and set aside what killed writers have left before it."""
        with self._locked():
            self._end_last_line()
            lines = self._lines()
            fixed: list[bytes] = []
            torn: list[bytes] = []
            for self._line, line in enumerate(lines, start=1):
                pieces = [line] if _is_record(line) else _RECORD_START.split(line)
                if not _is_record(pieces[-1]):  # no half line, which others have written behind
                    raise self.damaged(ValueError("no JSON"))
                fixed += filter(_is_record, pieces)
                torn += [piece for piece in pieces if piece and not _is_record(piece)]
            if fixed != lines:
                self._set_aside(torn)
                with atomic_file(self._path) as temporary:
                    temporary.write_bytes(b"".join(line + b"\n" for line in fixed))

    def damaged(self, error: Exception) -> UserError:
        """Make the error that names the line that was read last, and the way on."""
        command = f"c {_LOST_TRIAL}" if _CREATES_TRIAL.search(self._lines()[self._line - 1]) else "d"
        return UserError(
            f"{self._path}, line {self._line} is damaged ({type(error).__name__}: {str(error)[:100]!r}); to go on "
            f"without it: sed -i.damaged '{self._line}{command}' {self._path}"
        )

    def _lines(self) -> list[bytes]:
        with open_regular(self._path) as file:
            return file.read().split(b"\n")[:-1]

    def _end_last_line(self) -> None:
        """End a last line that was cut short: one that lacks its end alone is whole, another is set aside."""
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read() in (b"", b"\n"):
                return
            file.seek(0)
            last = file.read().rpartition(b"\n")[2]
            if _is_record(last):
                file.write(b"\n")
            else:
                self._set_aside([last])
                file.truncate(size - len(last))

    def _set_aside(self, torn: list[bytes]) -> None:
        aside = self._path.with_name(self._path.name + TORN_SUFFIX)
        append_lines(aside, [piece.decode("utf-8", "replace") for piece in torn])
        say(f"{self._path} held half a line that a killed writer or a full disk left; it is in {aside} now")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._told_where_unwritable():
            self._held.acquire()
            try:
                yield
            finally:
                self._held.release()

    @contextmanager
    def _told_where_unwritable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JobError(
                f"the study's journal {self._path} cannot be written: {error.strerror}; fix that and give the same "
                "command again: what was written is kept"
            ) from error


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "op_code" in record
