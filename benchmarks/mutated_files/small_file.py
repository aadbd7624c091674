"""What a kind of file is, for the mutations: a small real one, and the reader that meets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radflow.data.images.film import BadFilm
from radflow.data.readers.tfrecord import BadRecord
from radflow.errors import JobError, UserError

TOLD = (UserError, JobError, BadFilm, BadRecord)
"""What readers raise for files that they refuse: the text is one line."""

Write = Callable[[bytes, Path], None]
Read = Callable[[Path], Any]


def as_it_is(content: bytes, path: Path) -> None:
    path.write_bytes(content)


@dataclass(frozen=True)
class SmallFile:
    """A kind of file."""

    name: str
    """of the file in its folder"""
    content: bytes
    """what is mutated"""
    read: Read
    """reads the file at a path; raises one of `TOLD` where it is damaged"""
    write: Write = as_it_is
    """writes mutated content to a path, with what belongs beside it"""
    weight: int = 4
    """share among the mutations"""
    is_hashed: bool = False
    """whether a hash covers every byte, so that any change must be told"""
