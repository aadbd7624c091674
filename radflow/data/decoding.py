"""Many films decoded by several processes, in order, with a bounded number of them on the way.

Worker processes are started afresh (spawn), never forked: the parent may have imported TensorFlow, whose threads do
not survive a fork. They import this module and Pillow only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from radflow.cpu import available_cores
from radflow.data.images.film import MAX_FILM_BYTES, BadFilm, Fit, decode_film, read_film
from radflow.errors import JobError
from radflow.storage import Location

FILMS_PER_TASK = 16
"""Films handed over at once: the hand-over costs less than decoding, even for films of 64 pixels."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class StoredFilm:
    """A film's name and where its bytes are: a file, or the bytes themselves."""

    name: str
    content: Location | bytes


@dataclass(frozen=True)
class LeftOut:
    """Why there is no such image although nothing is damaged."""

    reason: str


Decoded = tuple[str, NDArray[np.uint8] | BadFilm]
"""A film's name with its pixels or what is wrong with it."""

Outcome = NDArray[np.uint8] | BadFilm | LeftOut
"""What has become of an image."""


def decode_films(films: Iterable[StoredFilm], size: int, fit: Fit, workers: int = 0) -> Iterator[Decoded]:
    """Decode films to uint8 [size, size], in the order given, by `workers` processes (0 = all usable cores).

    One worker decodes in this process. Raises `JobError` when a worker dies, naming films that it may have been at.
    """
    decode = partial(_decode_task, size=size, fit=fit)
    for decoded in in_order(decode, _in_tasks(films), workers, name_of=lambda task: task[0].name):
        yield from decoded


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, name_of: Callable[[Task], str]
) -> Iterator[Result]:
    """Do `work` on tasks by `workers` processes (0 = all usable cores), a bounded number at once; results in order.

    One worker works in this process; for more, work, tasks and results must be picklable. Raises `JobError` when a
    worker dies, with the names of the tasks that it may have been at.
    """
    workers = workers or available_cores()
    if workers == 1:
        yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        yield from _work_in_pool(pool, work, tasks, 2 * workers + 1, name_of)
    finally:
        pool.shutdown(cancel_futures=True)


def _work_in_pool(
    pool: ProcessPoolExecutor,
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    most_waiting: int,
    name_of: Callable[[Task], str],
) -> Iterator[Result]:
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(work, task)))
            if len(waiting) == most_waiting:
                yield waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    except BrokenProcessPool as error:
        suspects = f"{name_of(waiting[0][0])} to {name_of(waiting[-1][0])}" if waiting else "the last films"
        raise JobError(f"a decoding process died near {suspects} (out of memory?); try fewer workers") from error


def _in_tasks(films: Iterable[StoredFilm]) -> Iterator[list[StoredFilm]]:
    iterator = iter(films)
    while task := list(islice(iterator, FILMS_PER_TASK)):
        yield task


def _decode_task(task: list[StoredFilm], size: int, fit: Fit) -> list[Decoded]:
    return [(film.name, _decode_one(film, size, fit)) for film in task]


def _decode_one(film: StoredFilm, size: int, fit: Fit) -> NDArray[np.uint8] | BadFilm:
    try:
        content = film.content if isinstance(film.content, bytes) else read_film_file(film.content)
        return read_film(content, film.name, size, fit)
    except BadFilm as error:
        return error


def read_film_file(path: Location) -> bytes:
    """Read a film's file; raises `BadFilm` for one that is absent, no regular file or over `MAX_FILM_BYTES`."""
    try:
        if not path.is_file():  # a pipe or a device of that name would never end
            raise BadFilm("not a regular file")
        size = path.stat().st_size
        if size > MAX_FILM_BYTES:
            raise BadFilm(f"file of {size:,} bytes, the limit is {MAX_FILM_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise BadFilm(f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise BadFilm(f"file of {size:,} bytes, which is more memory than there is") from error


def decode_film_file(path: Location) -> NDArray[np.uint8]:
    """Decode a film's file to grey uint8 [H, W], its own size; raises `BadFilm`."""
    return decode_film(read_film_file(path), path.name)


def fetch_film(film: StoredFilm) -> StoredFilm:
    """Bring a film's bytes from where it is. One that cannot be read is left to the decoder, which says why."""
    try:
        content = film.content if isinstance(film.content, bytes) else read_film_file(film.content)
    except BadFilm:
        return film
    return StoredFilm(film.name, content)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: a killed parent cannot tell its workers to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
