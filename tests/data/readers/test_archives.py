from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from radflow.data.decoding import StoredFilm
from radflow.data.readers.archives import RefusedMember, films_in_archive
from radflow.errors import UserError


def write_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def regular(name: str, content: bytes = b"pixels") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def test_wanted_films_come_in_the_archive_s_order(tmp_path: Path) -> None:
    folder = special("images", tarfile.DIRTYPE)
    films = [
        regular("images/b.png", b"2"),
        regular("images/a.png", b"1"),
        regular("images/other.png"),
        regular("README"),
    ]
    archive = write_archive(tmp_path / "images_001.tar.gz", folder, *films)
    found = list(films_in_archive(archive, frozenset(["a.png", "b.png", "c.png"])))
    assert found == [StoredFilm("b.png", b"2"), StoredFilm("a.png", b"1")]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (regular("../../a.png"), "its path leaves the archive"),
        (regular("/etc/a.png"), "its path leaves the archive"),
        (special("images/a.png", tarfile.SYMTYPE, "/etc/passwd"), "a link, device or sparse file"),
        (special("images/a.png", tarfile.LNKTYPE, "images/b.png"), "a link, device or sparse file"),
        (special("images/a.png", tarfile.FIFOTYPE), "a link, device or sparse file"),
        (special("images/a.png", tarfile.CHRTYPE), "a link, device or sparse file"),
    ],
)
def test_hostile_members_are_refused_and_the_rest_is_read(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], reason: str
) -> None:
    archive = write_archive(tmp_path / "images_001.tar.gz", member, regular("images/a.png", b"real"))
    refused, film = films_in_archive(archive, frozenset(["a.png"]))
    assert refused == RefusedMember(f"images_001.tar.gz:{member[0].name}", f"archive member refused: {reason}")
    assert film == StoredFilm("a.png", b"real")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["images_001.tar.gz"]


def test_a_second_film_of_one_name_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "i.tar.gz", regular("x/a.png", b"first"), regular("y/a.png", b"second"))
    first, second = films_in_archive(archive, frozenset(["a.png"]))
    assert first == StoredFilm("a.png", b"first")
    assert isinstance(second, RefusedMember)


def test_an_oversized_member_is_passed_over_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.readers.archives.MAX_FILM_BYTES", 1000)
    noise = np.random.default_rng(0).bytes(1001)
    archive = write_archive(tmp_path / "i.tar.gz", regular("a.png", noise), regular("b.png", noise[1:]))
    huge, film = films_in_archive(archive, frozenset(["a.png", "b.png"]))
    assert huge == RefusedMember("i.tar.gz:a.png", "archive member refused: 1,001 bytes, the limit is 1,000")
    assert film == StoredFilm("b.png", noise[1:])


def test_an_archive_that_inflates_without_bounds_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.readers.archives.MAX_FILM_BYTES", 100_000)
    archive = write_archive(tmp_path / "i.tar.gz", *[regular(f"{n}.png", bytes(90_000)) for n in range(50)])
    with pytest.raises(UserError, match="inflates to over 20 times its size"):
        list(films_in_archive(archive, frozenset(["49.png"])))


def test_an_extended_header_without_bounds_is_an_error(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"comment": "x" * 2_000_000}
    with tarfile.open(tmp_path / "i.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    with pytest.raises(UserError, match=r"damaged after 0 films \(extended header of 2,0"):
        list(films_in_archive(tmp_path / "i.tar.gz", frozenset(["a.png"])))


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip", "not tar"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, damage: str) -> None:
    films = [regular(f"{number}.png", bytes((number * byte) % 251 for byte in range(4000))) for number in range(9)]
    archive = write_archive(tmp_path / "i.tar.gz", *films)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 255
    damaged = {
        "cut": archive.read_bytes()[:-500],
        "flipped": bytes(content),
        "not gzip": b"<html>not found</html>" * 50,
        "not tar": gzip.compress(b"<html>not found</html>" * 50),
    }
    archive.write_bytes(damaged[damage])
    with pytest.raises(UserError, match=r"i\.tar\.gz is damaged after \d films .*; download it again") as error:
        list(films_in_archive(archive, frozenset(f"{number}.png" for number in range(9))))
    assert "\n" not in str(error.value)


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def zipped(name: str, mode: int = 0, **changes: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    for field, value in changes.items():
        setattr(member, field, value)
    return member


def test_films_of_a_zip(tmp_path: Path) -> None:
    archive = write_zip(
        tmp_path / "archive.zip",
        ("images_001/images/", b""),
        ("images_001/images/b.png", b"2"),
        ("images_002/images/a.png", b"1"),
        ("Data_Entry_2017.csv", b"Image Index"),
    )
    assert list(films_in_archive(archive, frozenset(["a.png", "b.png"]))) == [
        StoredFilm("b.png", b"2"),
        StoredFilm("a.png", b"1"),
    ]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (zipped("../../a.png"), "its path leaves the archive"),
        (zipped("/etc/a.png"), "its path leaves the archive"),
        (zipped("..\\..\\a.png"), "its path leaves the archive"),
        (zipped("a.png", stat.S_IFLNK | 0o777), "a link, device or sparse file"),
        (zipped("a.png", stat.S_IFIFO), "a link, device or sparse file"),
        (zipped("a.png", compress_type=zipfile.ZIP_LZMA), "packed by method 14, expected stored or deflated"),
    ],
)
def test_hostile_members_of_a_zip_are_refused_and_the_rest_is_read(
    tmp_path: Path, member: zipfile.ZipInfo, reason: str
) -> None:
    archive = write_zip(tmp_path / "i.zip", (member, b"/etc/passwd"), ("images/a.png", b"real"))
    refused, film = films_in_archive(archive, frozenset(["a.png"]))
    assert refused == RefusedMember(f"i.zip:{member.filename}", f"archive member refused: {reason}")
    assert film == StoredFilm("a.png", b"real")


def test_an_encrypted_member_and_a_second_one_of_a_name_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "i.zip", ("a.png", b"1"), ("b.png", b"2"), ("c/b.png", b"3"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flags of the first entry of the central directory
    archive.write_bytes(content)
    encrypted, film, second = films_in_archive(archive, frozenset(["a.png", "b.png"]))
    assert encrypted == RefusedMember("i.zip:a.png", "archive member refused: encrypted")
    assert film == StoredFilm("b.png", b"2")
    assert second == RefusedMember("i.zip:c/b.png", "archive member refused: a second file of this name")


def test_a_damaged_member_of_a_zip_leaves_the_others(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(3000)
    archive = write_zip(tmp_path / "i.zip", ("a.png", noise), ("b.png", noise))
    content = bytearray(archive.read_bytes())
    content[1000] ^= 1
    archive.write_bytes(content)
    damaged, film = films_in_archive(archive, frozenset(["a.png", "b.png"]))
    assert isinstance(damaged, RefusedMember)
    assert damaged.reason.startswith("archive member refused: damaged: ")
    assert film == StoredFilm("b.png", noise)


def test_a_zip_that_inflates_without_bounds_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.readers.archives.MAX_FILM_BYTES", 100_000)
    names = [f"{number}.png" for number in range(50)]
    archive = write_zip(tmp_path / "i.zip", *[(name, bytes(90_000)) for name in names])
    with pytest.raises(UserError, match="inflates to over 20 times its size"):
        list(films_in_archive(archive, frozenset(names)))


def test_a_member_that_is_larger_than_it_says_is_read_no_further(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "i.zip", ("a.png", bytes(10_000_000)))
    content = bytearray(archive.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 1000)
    archive.write_bytes(content)
    (refused,) = films_in_archive(archive, frozenset(["a.png"]))
    assert isinstance(refused, RefusedMember)
    assert "damaged" in refused.reason


@pytest.mark.parametrize("name", ["i.tar.gz", "i.zip"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_archive_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged .*; download it again"):
        list(films_in_archive(tmp_path / name, frozenset(["a.png"])))


def test_a_member_of_2_60_bytes_ends_the_archive(tmp_path: Path) -> None:
    """Three hundred bytes of gzip, over which tarfile would seek for years."""
    member = tarfile.TarInfo("a.png")
    member.size = 2**60
    (tmp_path / "i.tar.gz").write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)))
    refused, damaged = "1,152,921,504,606,846,976 bytes, the limit is", "ends inside a member"
    found = films_in_archive(tmp_path / "i.tar.gz", frozenset(["a.png"]))
    assert refused in str(next(found))
    with pytest.raises(UserError, match=damaged):
        next(found)


@pytest.mark.parametrize("name", ["i.tar.gz", "i.zip"])
def test_an_archive_of_nothing_but_links_is_read_no_further(tmp_path: Path, name: str) -> None:
    links = range(5_000)
    if name.endswith("zip"):
        write_zip(tmp_path / name, *[(zipped(f"{number}.png", stat.S_IFLNK), b"x") for number in links])
    else:
        write_archive(tmp_path / name, *[special(f"{number}.png", tarfile.SYMTYPE, "x") for number in links])
    with pytest.raises(UserError, match=r"too many members of this kind: .*: a link, device or sparse file; remove it"):
        list(films_in_archive(tmp_path / name, frozenset(["a.png"])))


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        (8, "<H", 0x20),  # flags: patched data
        (8, "<H", 0x40),  # flags: strong encryption
        (42, "<I", 2**32 - 2),  # where the member is: beyond the end
        (42, "<I", 300),  # where the member is: in the directory
    ],
)
def test_a_broken_entry_of_a_zip_s_directory_leaves_the_other_members(
    tmp_path: Path, place: int, form: str, value: int
) -> None:
    archive = write_zip(tmp_path / "i.zip", ("a.png", b"1" * 100), ("b.png", b"2"))
    content = bytearray(archive.read_bytes())
    struct.pack_into(form, content, content.index(b"PK\x01\x02") + place, value)
    archive.write_bytes(content)
    refused, film = films_in_archive(archive, frozenset(["a.png", "b.png"]))
    assert isinstance(refused, RefusedMember)
    assert film == StoredFilm("b.png", b"2")


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "i.zip", ("a.png", b"1"), ("b.png", b"2"))
    archive.write_bytes(archive.read_bytes().replace(b"a.png", b"\0.png"))
    refused, film = films_in_archive(archive, frozenset(["b.png"]))
    assert refused == RefusedMember("i.zip:", "archive member refused: it has no name")
    assert film == StoredFilm("b.png", b"2")


def test_a_zip_s_directory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "i.zip", *[(f"{number}.png", b"") for number in range(1000)])
    assert list(films_in_archive(archive, frozenset(["5.png"]))) == [StoredFilm("5.png", b"")]
    monkeypatch.setattr("radflow.data.readers.archives.MAX_DIRECTORY_BYTES", 50_000)
    with pytest.raises(UserError, match="would be read in a piece of 5"):
        list(films_in_archive(archive, frozenset(["5.png"])))


@pytest.mark.parametrize("name", ["i.tar.gz", "i.zip"])
def test_a_pipe_or_folder_named_like_an_archive_is_one_line(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / name, (tmp_path / "folder").rename(tmp_path / f"folder-{name}")):
        with pytest.raises(UserError, match="not a regular file"):
            list(films_in_archive(path, frozenset(["a.png"])))
