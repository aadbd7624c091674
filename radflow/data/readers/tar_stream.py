"""Members of a tar archive, read forwards and once, in time and memory that its length bounds.

Python's `tarfile` does what headers say: it passes over a member of 2^60 bytes block by block, calls itself for each of
a chain of long names, and searches for the end of a broken sparse map for ever. Of it only `TarInfo.frombuf` is used,
which parses one header block. Formats: POSIX ustar and pax (IEEE Std 1003.1, pax), and GNU's long names.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

MAX_EXTENDED_HEADERS = 8
"""Headers before that of a member which say more of it; writers need three at most."""
MAX_EXTENDED_HEADER_BYTES = 2**20
"""Long names and attributes in one extended header, which is read into memory."""

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 2**20
_LONG_NAME, _LONG_LINK, _GLOBAL = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE
_OF_MEMBER = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (_LONG_NAME, _LONG_LINK, _GLOBAL, *_OF_MEMBER)
_SPARSE = "GNU.sparse."
"""What the attributes of a sparse file begin with."""


class TarStream:
    """Iterates over the members of an unpacked tar archive; `content` reads the one that came last.

    Both raise tarfile.TarError for what is no tar archive, and EOFError for one that ends too early.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unread = 0  # of the last header: its content and what fills up the block
        self._has_begun = False

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._next_member()) is not None:
            yield member

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Read the content of the last member, which is held in memory: its size is to be checked before."""
        self._unread -= member.size
        return self._exactly(member.size)

    def _next_member(self) -> tarfile.TarInfo | None:
        attributes: dict[str, str] = {}
        for _ in range(MAX_EXTENDED_HEADERS + 1):
            self._pass_over_rest()
            block = self._file.read(_BLOCK)
            if not block and not self._has_begun:
                raise EOFError("it is empty")
            self._has_begun = True
            if not block.strip(b"\0"):  # a block of zeros ends an archive; some writers leave it out
                return None
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
            if header.type not in _EXTENDED:
                self._pass_over_sparse_map(header.type == tarfile.GNUTYPE_SPARSE and block[482])
                return self._describe(header, attributes)
            attributes |= self._read_extended(header)
        raise tarfile.ReadError(f"over {MAX_EXTENDED_HEADERS} extended headers before one member")

    def _describe(self, member: tarfile.TarInfo, attributes: dict[str, str]) -> tarfile.TarInfo:
        """Complete a member's own header by what was said before it."""
        member.name = attributes.get("path", member.name)
        if "size" in attributes:
            member.size = _number(attributes["size"])
        if any(name.startswith(_SPARSE) for name in attributes):
            member.type = tarfile.GNUTYPE_SPARSE
        # Links, folders and devices have no content, whatever size they give.
        self._begin(member.size if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES else 0)
        return member

    def _read_extended(self, header: tarfile.TarInfo) -> dict[str, str]:
        """What an extended header says of the member after it."""
        if header.size > MAX_EXTENDED_HEADER_BYTES:
            raise tarfile.ReadError(f"extended header of {header.size:,} bytes")
        self._begin(header.size)
        content = self.content(header)
        if header.type == _LONG_NAME:
            return {"path": content.partition(b"\0")[0].decode("utf-8", "replace")}
        return _attributes(content) if header.type in _OF_MEMBER else {}

    def _pass_over_sparse_map(self, goes_on: int) -> None:
        """Pass over the blocks in which the map of GNU's old sparse files goes on, which no size counts."""
        while goes_on:
            goes_on = self._exactly(_BLOCK)[504]

    def _begin(self, size: int) -> None:
        if size < 0:
            raise tarfile.ReadError(f"a size of {size} bytes")
        self._unread = -(-size // _BLOCK) * _BLOCK

    def _pass_over_rest(self) -> None:
        while self._unread:
            self._unread -= len(self._exactly(min(self._unread, _PIECE)))

    def _exactly(self, length: int) -> bytes:
        content = self._file.read(length)
        if len(content) < length:
            raise EOFError("the archive ends inside a member")
        return content


def _attributes(content: bytes) -> dict[str, str]:
    """Parse a pax header's records: `LENGTH NAME=VALUE` and a line break, where the length counts all of it."""
    attributes: dict[str, str] = {}
    start = 0
    while start < len(content) and content[start]:  # some writers fill up with zeros
        digits = content[start : start + 20].partition(b" ")[0].decode("ascii", "replace")
        end = start + _number(digits)
        name, equals, value = content[start + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise tarfile.ReadError("broken extended header")
        attributes[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        start = end
    return attributes


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise tarfile.ReadError(f"{text[:20]!r} for a number in an extended header")
    return int(text)
