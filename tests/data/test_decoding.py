from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nih_folder import png_bytes

from radflow.data import decoding
from radflow.data.decoding import FILMS_PER_TASK, StoredFilm, decode_films
from radflow.data.images.film import BadFilm
from radflow.errors import JobError


class DeadlyContent:
    """Ends the process that receives it, as a codec that crashes does."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_two_workers_keep_the_order_and_take_no_more_films_than_they_need(tmp_path: Path) -> None:
    taken = 0

    def films() -> Iterator[StoredFilm]:
        nonlocal taken
        for number in range(400):
            taken += 1
            yield StoredFilm(
                f"{number}.png", b"" if number == 7 else png_bytes(np.full((4, 4), number % 256, np.uint8))
            )

    decoded = decode_films(films(), size=4, fit="squash", workers=2)
    first = next(decoded)
    assert taken <= 5 * FILMS_PER_TASK
    names, outcomes = zip(first, *decoded, strict=True)
    assert names == tuple(f"{number}.png" for number in range(400))
    assert isinstance(outcomes[7], BadFilm)
    assert all((outcome == number % 256).all() for number, outcome in enumerate(outcomes) if number != 7)


def test_a_worker_that_dies_is_one_line() -> None:
    films = [StoredFilm("deadly.png", DeadlyContent()), *[StoredFilm("b.png", b"")] * 40]
    with pytest.raises(JobError, match=r"a decoding process died near deadly\.png to .*; try fewer workers"):
        list(decode_films(films, size=4, fit="squash", workers=2))


def test_files_that_cannot_be_films_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "huge.png").write_bytes(bytes(101))
    monkeypatch.setattr(decoding, "MAX_FILM_BYTES", 100)
    films = [StoredFilm(name, tmp_path / name) for name in ("pipe.png", "huge.png", "absent.png")]
    reasons = [str(outcome) for _, outcome in decode_films(films, size=4, fit="squash", workers=1)]
    assert reasons == ["not a regular file", "file of 101 bytes, the limit is 100", "not a regular file"]


def test_a_file_that_memory_does_not_hold_is_one_bad_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bytes(7))

    def fail(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fail)
    ((_, outcome),) = decode_films([StoredFilm("a.png", tmp_path / "a.png")], size=4, fit="squash", workers=1)
    assert str(outcome) == "file of 7 bytes, which is more memory than there is"
