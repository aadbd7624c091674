"""What a person sees on the terminal: messages, and progress bars that are silent where nobody watches."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from radflow.errors import UserError
from radflow.secrets import hide_secrets

_log = logging.getLogger("radflow")

_TENSORFLOW_NOTICES = (
    "All log messages before absl::InitializeLog()",
    "oneDNN custom operations are on",
    "This TensorFlow binary is optimized to use",
    "To enable the following instructions",
)


def is_watched() -> bool:
    """Whether a person watches stderr.

    mpirun gives every rank a pseudo-terminal, so a launcher says in RADFLOW_PROGRESS what it sees itself.
    """
    return os.environ.get("RADFLOW_PROGRESS", str(int(sys.stderr.isatty()))) == "1"


def console() -> Console:
    """A console on stderr; stdout is for results."""
    watched = is_watched()
    return Console(stderr=True, force_terminal=watched, width=None if watched else 160, highlight=False)


def say(message: str) -> None:
    """Log one line for whoever runs the command, at level INFO."""
    _log.info("%s", message)


def warn(message: str) -> None:
    """Log one line that whoever runs the command should act on or know, at level WARNING."""
    _log.warning("%s", message)


def show_log() -> None:
    """Print what radflow logs on stderr, a line each, from the level on that RADFLOW_LOG_LEVEL names (INFO).

    Raises UserError for a level that there is not.
    """
    level = os.environ.get("RADFLOW_LOG_LEVEL", "INFO").upper()
    if level not in (known := logging.getLevelNamesMapping()):
        raise UserError(f"RADFLOW_LOG_LEVEL={level} is not a level; expected one of {', '.join(known)}")
    _log.setLevel(level)
    if not any(isinstance(handler, _TerminalHandler) for handler in _log.handlers):
        _log.addHandler(_TerminalHandler())


class _TerminalHandler(logging.Handler):
    """A line on stderr for each record, without the secrets that it may hold."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        console().print(hide_secrets(f"{level}{record.getMessage()}"), markup=False, soft_wrap=True)


def import_tensorflow() -> None:
    """Import TensorFlow without its notices."""
    if "tensorflow" not in sys.modules:
        with without_notices():
            importlib.import_module("tensorflow")


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep off stderr TensorFlow's notices of what it computes by, of which that of oneDNN is silenced by no log level.

    All else that it says goes through, by a process of its own: what it says last before it aborts, too.
    """
    patterns = [f"--regexp={notice}" for notice in _TENSORFLOW_NOTICES]
    command = ["grep", "--line-buffered", "--invert-match", "--fixed-strings", *patterns]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2) as passing:
        stderr = os.dup(2)
        os.dup2(passing.stdin.fileno(), 2)  # type: ignore[union-attr]  # stdin is a pipe
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def print_table(table: Table) -> None:
    """Print a result on stdout, as wide as the terminal, or as wide as it needs to be in a file."""
    watched = is_watched() and sys.stdout.isatty()
    Console(force_terminal=watched, width=None if watched else 160).print(table)


@contextmanager
def progress_bar(title: str, unit: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and remaining time; yield the function that moves it.

    That function takes the number of items done so far and, where they change, the title and the total.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(unit), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, disable=not is_watched()) as progress:
        task = progress.add_task(title, total=total)

        def move(done: int, title: str | None = None, total: int | None = None) -> None:
            progress.update(task, completed=done, description=title, total=total)

        yield move


class _Rate(ProgressColumn):
    """Items done, of how many, and how many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        rate = f"  {task.speed:.1f} {self._unit}/s" if task.speed else ""
        return Text(f"{int(task.completed)}/{int(task.total or 0)}{rate}")
