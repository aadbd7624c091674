"""Reading tar archives forwards, held against Python's tarfile, and against what an attacker writes into headers."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radflow.data.readers.tar_stream import MAX_EXTENDED_HEADERS, TarStream

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200).filter(
    lambda name: not name.endswith("/")
)


def tar_of(members: list[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=kind) as archive:
        for name, body in members:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return content.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header block of any size, in base 256 as GNU tar writes large ones."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11, "big") if size >= 0 else b"\xff" + (256**11 + size).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def attributes(*records: tuple[str, str]) -> bytes:
    """A pax header with records whose length counts its own digits."""
    content = b""
    for name, value in records:
        length = len(f" {name}={value}\n".encode())
        digits = next(n for n in range(1, 9) if len(str(length + n)) == n)
        content += f"{length + digits} {name}={value}\n".encode()
    return header("attributes", len(content), tarfile.XHDTYPE) + padded(content)


def read(content: bytes, wanted: bool = True) -> list[tuple[str, bytes]]:
    stream = TarStream(io.BytesIO(content))
    return [(member.name, stream.content(member) if wanted else b"") for member in stream]


@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=5),
    kind=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_that_tarfile_reads(members: list[tuple[str, bytes]], kind: int) -> None:
    content = tar_of(members, kind)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        expected = [(member.name, archive.extractfile(member).read()) for member in archive]
    assert read(content) == expected
    assert [name for name, _ in read(content, wanted=False)] == [name for name, _ in expected]


LONG_NAME = header("././@LongLink", 10, tarfile.GNUTYPE_LONGNAME) + padded(b"long name\0")
LIES = {
    "larger than any disk": (header("a", 2**60), "ends inside a member"),
    "larger than any disk, in its attributes": (attributes(("size", str(2**62))) + header("a", 0), "ends inside"),
    "negative": (header("a", -512) + header("b", 0), "a size of -512 bytes"),
    "negative, in its attributes": (attributes(("size", "-5")) + header("a", 0), "'-5' for a number"),
    "long names without end": (LONG_NAME * 3000 + header("a", 0), f"over {MAX_EXTENDED_HEADERS} extended headers"),
    "attributes without end": (attributes(("comment", "x")) * 3000 + header("a", 0), "extended headers before one"),
    "a record longer than its header": (
        header("x", 20, tarfile.XHDTYPE) + padded(b"99999999999 path=..."),
        "broken extended header",
    ),
    "a broken header after the first member": (tar_of([("a", b"1")])[:1024] + b"garbage" * 200, "invalid header"),
    "an archive that ends in a header": (tar_of([("a", b"1")])[:1100] + b"x", "truncated header"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_headers_are_told_at_once(lie: str) -> None:
    content, reason = LIES[lie]
    with pytest.raises((tarfile.TarError, EOFError), match=reason):
        read(content, wanted=False)


@pytest.mark.parametrize(
    "records",
    [
        [("GNU.sparse.map", "1,x,y"), ("GNU.sparse.size", "10")],
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10")],
    ],
)
@pytest.mark.parametrize("sparse_map", [b"nonsense\n", b"1000000000000\n"])
def test_maps_of_sparse_files_are_not_read(records: list[tuple[str, str]], sparse_map: bytes) -> None:
    content = attributes(*records) + header("a", len(sparse_map)) + padded(sparse_map) + tar_of([("b", b"2")])
    assert [(member.name, member.type) for member in TarStream(io.BytesIO(content))] == [
        ("a", tarfile.GNUTYPE_SPARSE),
        ("b", tarfile.REGTYPE),
    ]


WHOLE = tar_of([("n" * 150, b"1" * 700), ("b", b"2")], tarfile.PAX_FORMAT)


@settings(max_examples=300)
@given(place=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), kept=st.integers(0, len(WHOLE)))
def test_any_damage_gives_members_or_a_known_error(place: int, byte: int, kept: int) -> None:
    content = bytearray(WHOLE)
    content[place] = byte
    with suppress(tarfile.TarError, EOFError):
        read(bytes(content[:kept]), wanted=False)
