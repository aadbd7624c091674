"""The films that somebody wants predicted: folders and DICOM trees, single files, lists of them, arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radflow.cpu import available_cores
from radflow.data.decoding import decode_film_file, read_film_file
from radflow.data.images.film import FILM_SUFFIXES, BadFilm, Fit, decode_film, is_dicom, resize_film
from radflow.data.images.remarks import Remark, remark_on
from radflow.errors import UserError
from radflow.storage import Location, S3Path, locate

_OTHER_PICTURES = (".bmp", ".gif", ".webp", ".heic", ".avif", ".jxl", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
"""Pictures of other formats: listed as films that cannot be read, rather than passed over."""
_HEAD_BYTES = 132


@dataclass(frozen=True)
class Film:
    """A film to predict: its name in the table, and its file or its grey pixels uint8 [H, W]."""

    name: str
    content: Location | NDArray[np.uint8]

    def read(self, size: int, fit: Fit) -> ReadFilm | BadFilm:
        """Pixels uint8 [size, size] and what is odd about them, or what is wrong with the film."""
        try:
            if isinstance(self.content, np.ndarray):
                return ReadFilm(resize_film(self.content, size, fit), remark_on(self.content))
            content = read_film_file(self.content)
            whole = decode_film(content, self.content.name)
            return ReadFilm(resize_film(whole, size, fit), remark_on(whole, content))
        except BadFilm as reason:
            return reason

    def read_whole(self) -> NDArray[np.uint8]:
        """Pixels uint8 [H, W] in the film's own size; raises `BadFilm`."""
        return self.content if isinstance(self.content, np.ndarray) else decode_film_file(self.content)


class ReadFilm(NamedTuple):
    """A film that could be read."""

    pixels: NDArray[np.uint8]
    """[size, size]"""
    remark: Remark


FilmSource = str | Location | Sequence[str | Location | Film] | NDArray[np.uint8]
"""A film or a folder of films, a list of films, or grey uint8 [n, H, W] or [H, W]."""


def list_films(source: FilmSource) -> list[Film]:
    """The films of a source; those of a folder in the order of their paths, which are their names.

    Raises UserError where there is nothing, or nothing of the kind expected.
    """
    if isinstance(source, np.ndarray):
        return _films_of_array(source)
    if isinstance(source, str | Path | S3Path):
        place = locate(source)
        if place.is_file():
            return [Film(place.name, place)]
        return [Film(path.relative_to(place).as_posix(), path) for path in _find_films(place)]
    films = [film if isinstance(film, Film) else Film(str(film), locate(film)) for film in source]
    if not films:
        raise UserError("no films given; give a folder, a list of films, or uint8 arrays [n, height, width]")
    return films


def read_ahead(films: Sequence[Film], size: int, fit: Fit, most_waiting: int) -> Iterator[ReadFilm | BadFilm]:
    """Read films to uint8 [size, size] in order by a thread a core, at most `most_waiting` before they are wanted.

    Decoders release Python's lock. Processes would decode no faster, and would run the main module of whoever imports
    radflow in a script again.
    """
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
    waiting: list[Future[ReadFilm | BadFilm]] = []
    try:
        for film in films:
            waiting.append(pool.submit(film.read, size, fit))
            if len(waiting) > most_waiting:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)


def _films_of_array(films: NDArray[np.uint8]) -> list[Film]:
    batch = films[np.newaxis] if films.ndim == 2 else films
    if batch.dtype != np.uint8 or batch.ndim != 3 or not batch.size:
        raise UserError(f"films are {films.dtype} {list(films.shape)}; expected grey uint8 [n, height, width]")
    return [Film(str(number), film) for number, film in enumerate(batch)]


def _find_films(folder: Location) -> list[Location]:
    """The pictures below a folder: by their suffix, and DICOM of any name by its bytes, as scanners store it."""
    if not folder.is_dir():
        raise UserError(f"input={folder} does not exist; give a film or a folder of films")
    films = sorted(path for path in folder.rglob("*") if path.is_file() and _is_film(path))
    if not films:
        raise UserError(
            f"input={folder} holds no films; expected files ending in {', '.join(FILM_SUFFIXES)}, or DICOM of any name"
        )
    return films


def _is_film(path: Location) -> bool:
    if path.name.lower().endswith((*FILM_SUFFIXES, *_OTHER_PICTURES)):
        return True
    if path.name == "DICOMDIR":  # the table of contents of a DICOM medium
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(_HEAD_BYTES))
    except OSError:
        return False
