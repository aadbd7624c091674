"""Films out of archives that are not trusted: streamed member by member, by allow-list, never unpacked to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from radflow.data.images import MAX_FILM_BYTES
from radflow.errors import UserError

MAX_INFLATION = 20
"""Films are compressed already; an archive that grows by more than this is an attack."""

MAX_EXTENDED_HEADER_BYTES = 2**20
"""Long names and attributes of one member, which tarfile reads into memory."""


@dataclass(frozen=True)
class StoredFilm:
    """A film's name and where its bytes are: a file, or the bytes themselves."""

    name: str
    content: Path | bytes


@dataclass(frozen=True)
class RefusedMember:
    """A member of an archive that is not taken, and why."""

    name: str
    reason: str


def films_in_archive(archive: Path, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    """Stream a .tar.gz in its order: the regular members whose base name is wanted, each name once.

    Links, devices, paths that leave the archive, oversized members and second members of one name are yielded as
    refused; other files are passed over. Raises `UserError` for an archive that is damaged or inflates without bounds.
    """
    taken: set[str] = set()
    try:
        with _BoundedGunzip(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_Member) as members:
            for member in members:
                name = PurePosixPath(member.name).name
                reason = _reason_to_refuse(member) or ("a second file of this name" if name in taken else "")
                if reason:
                    yield RefusedMember(f"{archive.name}:{member.name}", f"archive member refused: {reason}")
                elif member.isreg() and name in wanted:
                    taken.add(name)
                    yield StoredFilm(name, _member_bytes(members, member))
            unpacked.read_to_checksum()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{archive} is damaged after {len(taken)} films ({error}); download it again") from error


class _Member(tarfile.TarInfo):
    """A member whose extended headers are bounded, as tarfile reads them whole, at the length that they announce."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not (member.isreg() or member.isdir()) and member.size > MAX_EXTENDED_HEADER_BYTES:
            raise tarfile.ReadError(f"extended header of {member.size:,} bytes")
        return member


class _BoundedGunzip(io.RawIOBase):
    """Reads a gzip file forwards, up to `MAX_INFLATION` times its size (and the size of one film at least)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.open("rb")
        self._file = gzip.open(self._packed, "rb")  # noqa: SIM115  (both closed in close())
        self._left = max(MAX_INFLATION * path.stat().st_size, MAX_FILM_BYTES)

    def read_to_checksum(self) -> None:
        """Read what is left, so that gzip compares its checksum: tarfile takes a broken header for the end."""
        while self.read(2**20):
            pass

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()

    def read(self, length: int = -1) -> bytes:
        content = self._file.read(length)
        self._left -= len(content)
        if self._left < 0:
            raise UserError(f"{self._path} inflates to over {MAX_INFLATION} times its size, as no films do; remove it")
        return content


def _reason_to_refuse(member: tarfile.TarInfo) -> str:
    """Why a member is not taken whatever its name is, or nothing."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "its path leaves the archive"
    if member.isdir():
        return ""
    if not member.isreg() or member.issparse():
        return "a link, device or sparse file"
    if member.size > MAX_FILM_BYTES:
        return f"{member.size:,} bytes, the limit is {MAX_FILM_BYTES:,}"
    return ""


def _member_bytes(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = members.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"member {member.name} has no content")
    return content.read()
