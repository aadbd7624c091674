"""What mpirun says of the end of a job, between rules of dashes, amid what ranks have written to stderr."""

from __future__ import annotations

import re

_RULE = re.compile(rb"-{60,}\r?\n?")
_OF_THE_END = re.compile(rb"^(?:prterun|PRTE has lost)", re.MULTILINE)
_LONGEST = 16 * 2**10

_SIGNALLED = re.compile(r"process rank (\d+) with PID \d+ on node (\S+)\s+exited on\s+signal (\d+) \(([^)]*)\)")
_ABORTED = re.compile(r"process rank (\d+) with PID \d+ on node (\S+)\s+calling\s+\"abort\"")
_LOST_HOST = re.compile(r"Remote daemon:\s*\S+ on node (\S+)")


class MpirunMessages:
    """Takes the messages of a job's end out of the output, since ranks tell in a line what these tell in ten."""

    def __init__(self) -> None:
        self._message = b""
        """What has come of a message whose second rule has not."""
        self._line = b""
        """Dashes that may become a rule."""
        self._in_line = False
        self._taken: list[bytes] = []

    def take(self, output: bytes) -> bytes:
        """The output without the messages; what may be the beginning of one is held back until more is known."""
        lines, self._line = (self._line + output).splitlines(keepends=True), b""
        return b"".join(map(self._take_line, lines))

    def _take_line(self, line: bytes) -> bytes:
        if not line.endswith(b"\n") and not self._in_line and (self._message or not line.strip(b"-\r")):
            self._line = line
            return b""
        is_rule = bool(_RULE.fullmatch(line)) and not self._in_line
        self._in_line = not line.endswith(b"\n")
        if not (self._message or is_rule):
            return line
        self._message += line
        ends = is_rule and len(self._message) > len(line)
        if ends and _OF_THE_END.search(self._message):
            self._taken.append(self._message)
            self._message = b""
        elif ends or len(self._message) > _LONGEST:
            shown, self._message = self._message, b""
            return shown
        return b""

    @property
    def text(self) -> str:
        """All that was not shown."""
        return b"".join([*self._taken, self._message, self._line]).decode(errors="replace")

    def lost_hosts(self) -> list[str]:
        """Hosts whose daemons no longer answer."""
        return _LOST_HOST.findall(self.text)

    def loss(self) -> str:
        """The host or rank whose end is why mpirun has told the others to stop; '' where there is none."""
        if lost := self.lost_hosts():
            return f"the connection to {', '.join(dict.fromkeys(lost))} is lost"
        if died := _SIGNALLED.search(self.text):
            rank, host, number, name = died.groups()
            return f"rank {rank} on {host} was ended by signal {number} ({name})"
        return ""

    def aborted(self) -> str:
        """The rank that has ended itself by MPI_Abort; '' where there is none."""
        if aborted := _ABORTED.search(self.text):
            return "rank {} on {} has lost the connection to another rank".format(*aborted.groups())
        return ""
