"""The folder of a phantom dataset, which appears when it is whole, and the processes that draw its films."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from radflow.cpu import available_cores
from radflow.data.decoding import in_order
from radflow.data.readers.base import PHANTOM_MARK
from radflow.errors import UserError
from radflow.files import atomic_folder


class PhantomImage(Protocol):
    """A film to draw."""

    @property
    def name(self) -> str:
        """Name in its dataset."""
        ...


Image = TypeVar("Image", bound=PhantomImage)


@contextmanager
def phantom_folder(folder: Path, seed: int, workers: int | None) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder` when the block ends well, marked as synthetic.

    Raises UserError before that where `seed` is negative, `workers` is below 1, or `folder` has content.
    """
    if seed < 0:
        raise UserError(f"seed={seed} given; give 0 or more")
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers} given; give at least 1, or nothing for one per core")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; phantom films go into a new or empty folder, so give another name")
    with atomic_folder(folder) as unfinished:
        yield unfinished
        (unfinished / PHANTOM_MARK).write_text("Synthetic films, drawn by radflow. They show no patient.\n")


def write_films(
    write: Callable[[Sequence[Image]], None],
    films: Sequence[Image],
    films_per_task: int,
    workers: int | None,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Draw and save films by `workers` processes, one per available core unless given.

    `write`, which must be picklable, gets `films_per_task` of them at a time; `on_progress` is called with the number
    written so far.
    """
    tasks = [films[start : start + films_per_task] for start in range(0, len(films), films_per_task)]
    processes = min(workers or available_cores(), len(tasks))
    done = 0
    for task, _ in zip(tasks, in_order(write, tasks, processes, name_of=lambda task: task[0].name), strict=True):
        done += len(task)
        if on_progress is not None:
            on_progress(done)
