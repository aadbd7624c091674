"""The films that a label file names: unpacked in folders, in archives, or some of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from radflow.data.decoding import StoredFilm
from radflow.data.images.film import BadFilm
from radflow.data.readers.archives import RefusedMember, films_in_archive
from radflow.data.readers.base import Image, Unit
from radflow.storage import Location

FILMS_OF_A_UNIT = 1_024
"""Films that do not lie in archives and are decoded by one machine before the next ones."""
IMAGE_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".jp2", ".pgm")
"""What a table may leave out at the end of a film's name."""


@dataclass(frozen=True)
class FilmFiles:
    """Where films lie. What is film.png in the label file may be film.PNG there."""

    unpacked: Mapping[str, Location]
    """Films outside archives, by name."""
    archives: Sequence[Location]
    """Archives in the order in which they are looked into: streamed, never unpacked to disk."""
    absent: str
    """Reason of a film that lies nowhere."""

    def images(self, wanted: Sequence[str]) -> Iterator[Image]:
        """Yield each wanted film once, stored or absent: unpacked ones first, then those in archives, in their order.

        Archives are not opened when every film is found unpacked. Absent films are told as soon as they are known to be
        absent: first where there are no archives, else last.
        """
        stored, remaining = self._divide(wanted)
        if not self.archives:
            yield from self._absent(remaining)
        yield from stored
        for archive in self.archives:
            if not remaining:
                return
            found = set()
            for item in films_of(archive, remaining):
                if isinstance(item, StoredFilm):
                    found.add(item.name)
                yield item
            remaining = [name for name in remaining if name not in found]
        if self.archives:
            yield from self._absent(remaining)

    def units(self, wanted: Sequence[str]) -> list[Unit]:
        """Blocks of the unpacked films, and each archive with what is not unpacked."""
        stored, remaining = self._divide(wanted)
        blocks = [stored[start : start + FILMS_OF_A_UNIT] for start in range(0, len(stored), FILMS_OF_A_UNIT)]
        archives = self.archives if remaining else []
        return [
            *(partial(iter, block) for block in blocks),
            *(partial(films_of, each, remaining) for each in archives),
        ]

    def _divide(self, wanted: Sequence[str]) -> tuple[list[StoredFilm], list[str]]:
        """The films that are unpacked, and the names of the others."""
        places = {name: next((each for each in spellings(name) if each in self.unpacked), None) for name in wanted}
        stored = [StoredFilm(name, self.unpacked[place]) for name, place in places.items() if place is not None]
        return stored, [name for name, place in places.items() if place is None]

    def _absent(self, names: Sequence[str]) -> Iterator[Image]:
        return ((name, BadFilm(self.absent)) for name in names)


def films_of(archive: Location, wanted: Sequence[str]) -> Iterator[StoredFilm | RefusedMember]:
    """Each wanted film of an archive once, by the name that the label file gives it.

    Of a name with folders the last part is looked for, if no other wanted film has the same.
    """
    last_parts = {name: PurePosixPath(name).name for name in wanted}
    wanted_by = Counter(last_parts.values())
    alone = [name for name, last in last_parts.items() if wanted_by[last] == 1]
    names = {each: name for name in reversed(alone) for each in reversed(spellings(last_parts[name]))}
    found = set()
    for item in films_in_archive(archive, frozenset(names)):
        if not isinstance(item, StoredFilm):
            yield item
        elif names[item.name] not in found:
            found.add(names[item.name])
            yield StoredFilm(names[item.name], item.content)


def spellings(name: str) -> tuple[str, ...]:
    """A film's name, and the same with its suffix in lower and in upper case."""
    stem, dot, suffix = name.rpartition(".")
    return name, f"{stem}{dot}{suffix.lower()}", f"{stem}{dot}{suffix.upper()}"


def find_image(folder: Location, name: str) -> Location | None:
    """The file of this name, or with a suffix that the table leaves out."""
    for suffix in IMAGE_SUFFIXES:
        path: Location = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    return None
