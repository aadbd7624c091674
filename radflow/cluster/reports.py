"""What ranks tell their launcher: JSON records amid their output, which reaches it whatever the network between them.

A record is written as in a JSON text sequence (RFC 7464), so that it can be told from the text around it.
"""

from __future__ import annotations

import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

Ending = Literal["", "done", "stopped", "mistake", "failed", "crashed", "system", "stalled", "lost another"]
"""How a rank ends, '' while it does not.

Its work is done, a signal told it to stop (whose name is the reason), it was used wrongly, training failed for a known
reason or by an exception, the system failed (OSError), there was no progress, or another rank is gone.
"""

_RECORD = re.compile(rb"(?:\[\d+\]<stdout>:)?\x1e([^\x1e\n]*)\n")  # horovodrun names the rank before each line
_LONGEST = 4096
"""Bytes of a record: what a pipe or a terminal takes at once, so that no other output comes between."""


@dataclass(frozen=True)
class Report:
    """How a rank is getting on, or why it ends."""

    rank: int
    host: str
    doing: str
    """What it does, in words that follow `while`."""
    waits: bool
    """Whether it waits for other ranks."""
    still: float
    """Seconds since it last got on."""
    ending: Ending = ""
    reason: str = ""
    """Why it ends, in one line."""

    @property
    def name(self) -> str:
        """The rank and its host."""
        return f"rank {self.rank} on {self.host}"


def write_report(report: Report) -> None:
    """Write a report to stdout, past what Python buffers; a launcher that is gone is no error here."""
    room = _LONGEST - len(_record({**asdict(report), "reason": ""}))
    reason = report.reason.encode()[: room // 2].decode(errors="ignore")  # quotes may be written as two bytes
    with suppress(OSError):
        os.write(1, _record({**asdict(report), "reason": reason}))


def _record(content: dict[str, object]) -> bytes:
    return b"\x1e" + json.dumps(content, ensure_ascii=False).encode() + b"\n"


class ReportReader:
    """Takes the reports out of the output of ranks."""

    def __init__(self) -> None:
        self._held = b""

    def read(self, output: bytes) -> tuple[bytes, list[Report]]:
        """The output without reports, and the reports; the beginning of one is held back until its end comes."""
        text = (self._held + output).replace(b"\r\n", b"\n")  # mpirun gives ranks a terminal
        start = text.rfind(b"\x1e")
        begun = start >= 0 and b"\n" not in text[start:] and len(text) - start < _LONGEST
        text, self._held = (text[:start], text[start:]) if begun else (text, b"")
        reports: list[Report] = []
        for record in _RECORD.findall(text):
            with suppress(ValueError, TypeError):  # torn by the output of another rank: the next one comes soon
                reports.append(Report(**json.loads(record)))
        return _RECORD.sub(b"", text), reports


def this_host() -> str:
    """The name of this machine, as messages give it."""
    return platform.node()
