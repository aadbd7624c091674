from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from radflow.data.archives import RefusedMember, StoredFilm, films_in_archive
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
    monkeypatch.setattr("radflow.data.archives.MAX_FILM_BYTES", 1000)
    noise = np.random.default_rng(0).bytes(1001)
    archive = write_archive(tmp_path / "i.tar.gz", regular("a.png", noise), regular("b.png", noise[1:]))
    huge, film = films_in_archive(archive, frozenset(["a.png", "b.png"]))
    assert huge == RefusedMember("i.tar.gz:a.png", "archive member refused: 1,001 bytes, the limit is 1,000")
    assert film == StoredFilm("b.png", noise[1:])


def test_an_archive_that_inflates_without_bounds_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radflow.data.archives.MAX_FILM_BYTES", 100_000)
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
