"""Films out of archives that are not trusted: streamed member by member, by allow-list, never unpacked to disk."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from radflow.data.decoding import StoredFilm
from radflow.data.images.film import MAX_FILM_BYTES
from radflow.data.readers.tar_stream import TarStream
from radflow.errors import UserError
from radflow.files import open_regular
from radflow.storage import Location

MAX_INFLATION = 20
"""Films are compressed already; an archive that grows by more than this is an attack."""

MAX_DIRECTORY_BYTES = 32 * 2**20
"""Longest directory of a zip, of which every entry becomes an object; that of all of ChestX-ray14 has some 13 MB."""

MAX_REFUSED = 1_000
"""Refused members that are listed, beside those that could be two for each wanted film."""

_LONGEST_NAME = 255
_PIECE = 2**20
_BAD_MEMBER = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, NotImplementedError)
"""What zipfile raises for members whose headers or content are broken."""


@dataclass(frozen=True)
class RefusedMember:
    """A member of an archive that is not taken, and why."""

    name: str
    reason: str


def films_in_archive(archive: Location, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    """Stream a .tar.gz or .zip in its order: the regular members whose base name is wanted, each name once.

    Links, devices, paths that leave the archive, oversized members and second members of one name are yielded as
    refused, and so are damaged and encrypted members of a zip; other files are passed over. Of several members of one
    name the first is taken. Raises `UserError` for an archive that is damaged, inflates without bounds, or holds little
    but what is refused.
    """
    may_be_refused = MAX_REFUSED + 2 * len(wanted)
    films_in = _films_in_zip if archive.suffix.lower() == ".zip" else _films_in_tar
    for item in films_in(archive, wanted):
        if isinstance(item, RefusedMember):
            may_be_refused -= 1
            if may_be_refused < 0:
                raise UserError(f"{archive} holds too many members of this kind: {item.name}: {item.reason}; remove it")
        yield item


def _films_in_tar(archive: Location, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    taken: set[str] = set()
    try:
        with _BoundedGunzip(archive) as unpacked:
            members = TarStream(cast(BinaryIO, unpacked))
            for member in members:
                name = PurePosixPath(member.name).name
                if reason := _reason_to_refuse(member) or _reason_of_repetition(name, taken):
                    yield _refused(archive, member.name, reason)
                elif member.isreg() and name in wanted:
                    taken.add(name)
                    yield StoredFilm(name, members.content(member))
            unpacked.read_to_checksum()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{archive} is damaged after {len(taken)} films ({error}); download it again") from error


def _films_in_zip(archive: Location, wanted: frozenset[str]) -> Iterator[StoredFilm | RefusedMember]:
    """Members of a zip are packed one by one: each tells its own size, and one that is damaged leaves the others."""
    taken: set[str] = set()
    left = _most_inflated(archive)
    try:
        with open_regular(archive) as packed, zipfile.ZipFile(_BoundedDirectory(packed)) as members:
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
                    except _BAD_MEMBER as error:
                        yield _refused(archive, member.filename, f"damaged: {error}"[:_LONGEST_NAME])
    except (*_BAD_MEMBER, OSError) as error:
        raise UserError(f"{archive} is damaged ({error}); download it again") from error


class _BoundedDirectory:
    """A zip's file, of which zipfile reads the whole directory at once, at the length that the file announces."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file = file

    def read(self, length: int = -1) -> bytes:
        if length > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"it would be read in a piece of {length:,} bytes")
        return self._file.read(length)


class _BoundedGunzip(io.RawIOBase):
    """Reads a gzip file forwards, up to `MAX_INFLATION` times its size (and the size of one film at least)."""

    def __init__(self, path: Location) -> None:
        self._path = path
        self._packed = open_regular(path)
        self._file = gzip.open(self._packed, "rb")  # noqa: SIM115  (both closed in close())
        self._left = _most_inflated(path)

    def read_to_checksum(self) -> None:
        """Read what is left, so that gzip compares its checksum."""
        while self.read(_PIECE):
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


def _most_inflated(archive: Location) -> int:
    return max(MAX_INFLATION * archive.stat().st_size, MAX_FILM_BYTES)


def _inflation(archive: Location) -> UserError:
    return UserError(f"{archive} inflates to over {MAX_INFLATION} times its size, as no films do; remove it")


def _refused(archive: Location, member: str, reason: str) -> RefusedMember:
    """Name a member for the list of what was refused, in which any name may end."""
    name = "".join(letter if letter.isprintable() else "?" for letter in member[:_LONGEST_NAME])
    return RefusedMember(f"{archive.name}:{name}", f"archive member refused: {reason}")


def _reason_of_repetition(name: str, taken: set[str]) -> str:
    return "a second file of this name" if name in taken else ""


def _reason_to_refuse(member: tarfile.TarInfo) -> str:
    """Why a member is not taken whatever its name is, or nothing."""
    if _leaves_archive(member.name):
        return "its path leaves the archive"
    if member.isdir():
        return ""
    if not member.isreg() or member.type == tarfile.GNUTYPE_SPARSE:
        return "a link, device or sparse file"
    return _reason_of_size(member.size)


def _reason_to_refuse_zipped(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not member.filename:
        return "it has no name"
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


def _zipped_bytes(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a member up to its announced size, in pieces: one `read()` inflates all that is there before it cuts."""
    unpacked = io.BytesIO()
    with members.open(member) as content:
        shutil.copyfileobj(content, unpacked, _PIECE)
    return unpacked.getvalue()
