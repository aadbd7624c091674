"""Films out of archives that are not trusted: streamed member by member, by allow-list, never unpacked to disk."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
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
    """Stream a .tar.gz or .zip in its order: the regular members whose base name is wanted, each name once.

    Links, devices, paths that leave the archive, oversized members and second members of one name are yielded as
    refused, and so are damaged and encrypted members of a zip; other files are passed over. Of several members of one
    name the first is taken. Raises `UserError` for an archive that is damaged or inflates without bounds.
    """
    if archive.suffix.lower() == ".zip":
        yield from _films_in_zip(archive, wanted)
    else:
        yield from _films_in_tar(archive, wanted)


def _films_in_tar(archive: Path, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    taken: set[str] = set()
    try:
        with _BoundedGunzip(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_Member) as members:
            for member in members:
                name = PurePosixPath(member.name).name
                if reason := _reason_to_refuse(member) or _reason_of_repetition(name, taken):
                    yield _refused(archive, member.name, reason)
                elif member.isreg() and name in wanted:
                    taken.add(name)
                    yield StoredFilm(name, _member_bytes(members, member))
            unpacked.read_to_checksum()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{archive} is damaged after {len(taken)} films ({error}); download it again") from error


def _films_in_zip(archive: Path, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    """Members of a zip are packed one by one: each tells its own size, and one that is damaged leaves the others."""
    taken: set[str] = set()
    left = _most_inflated(archive)
    try:
        with archive.open("rb") as packed, zipfile.ZipFile(packed) as members:
            for member in members.infolist():
                name = PurePosixPath(member.filename).name
                if reason := _reason_to_refuse_zipped(member) or _reason_of_repetition(name, taken):
                    yield _refused(archive, member.filename, reason)
                elif not member.is_dir() and name in wanted:
                    taken.add(name)
                    left -= member.file_size
                    if left < 0:
                        raise _inflation(archive)
                    try:
                        yield StoredFilm(name, _zipped_bytes(members, member))
                    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
                        yield _refused(archive, member.filename, f"damaged: {error}")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{archive} is damaged ({error}); download it again") from error


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
        self._left = _most_inflated(path)

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
            raise _inflation(self._path)
        return content


def _most_inflated(archive: Path) -> int:
    return max(MAX_INFLATION * archive.stat().st_size, MAX_FILM_BYTES)


def _inflation(archive: Path) -> UserError:
    return UserError(f"{archive} inflates to over {MAX_INFLATION} times its size, as no films do; remove it")


def _refused(archive: Path, member: str, reason: str) -> RefusedMember:
    return RefusedMember(f"{archive.name}:{member}", f"archive member refused: {reason}")


def _reason_of_repetition(name: str, taken: set[str]) -> str:
    return "a second file of this name" if name in taken else ""


def _reason_to_refuse(member: tarfile.TarInfo) -> str:
    """Why a member is not taken whatever its name is, or nothing."""
    if _leaves_archive(member.name):
        return "its path leaves the archive"
    if member.isdir():
        return ""
    if not member.isreg() or member.issparse():
        return "a link, device or sparse file"
    return _reason_of_size(member.size)


def _reason_to_refuse_zipped(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if _leaves_archive(member.filename):
        return "its path leaves the archive"
    if member.is_dir():
        return ""
    if kind not in (0, stat.S_IFREG):  # 0 is what archives made elsewhere than on Unix say
        return "a link, device or sparse file"
    if member.flag_bits & 1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed by method {member.compress_type}, expected stored or deflated"
    return _reason_of_size(member.file_size)


def _leaves_archive(name: str) -> bool:
    """Whether a path is absolute or climbs; one with backslashes may do so on other systems."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def _reason_of_size(size: int) -> str:
    return f"{size:,} bytes, the limit is {MAX_FILM_BYTES:,}" if size > MAX_FILM_BYTES else ""


def _member_bytes(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = members.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"member {member.name} has no content")
    return content.read()


def _zipped_bytes(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a member up to its announced size: `read()` would inflate all that is there before it cuts."""
    with members.open(member) as content:
        return content.read(member.file_size + 1)
