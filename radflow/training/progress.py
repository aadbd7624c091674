"""What a person sees while training runs: a bar on a terminal, a line an epoch everywhere."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

from radflow.terminal import progress_bar, say


class EpochProgress(Protocol):
    """Told of each step and of each epoch's end."""

    def start_epoch(self, epoch: int, epochs: int, films: int) -> None:
        """An epoch over `films` films begins; `epoch` counts from 0."""

    def advance(self, films: int, loss: float) -> None:
        """`films` films of the epoch are done so far, the last step with this mean loss."""

    def end_epoch(self, summary: str) -> None:
        """The epoch is done and validated."""

    def close(self) -> None:
        """Training has ended, well or not."""


class SilentProgress:
    """Shows nothing: for every rank but the first."""

    def start_epoch(self, epoch: int, epochs: int, films: int) -> None:
        """Do nothing."""

    def advance(self, films: int, loss: float) -> None:
        """Do nothing."""

    def end_epoch(self, summary: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TerminalProgress:
    """A bar with images/s and remaining time where a person watches, and a line at each epoch's end."""

    def __init__(self) -> None:
        self._bar = ExitStack()

    def start_epoch(self, epoch: int, epochs: int, films: int) -> None:
        """Begin a bar."""
        self._epoch = f"epoch {epoch + 1}/{epochs}"
        self._move = self._bar.enter_context(progress_bar(self._epoch, "images", films))

    def advance(self, films: int, loss: float) -> None:
        """Move the bar."""
        self._move(films, f"{self._epoch}  loss {loss:.4f}")

    def end_epoch(self, summary: str) -> None:
        """Remove the bar and print the epoch's line."""
        self.close()
        say(f"{self._epoch}  {summary}")

    def close(self) -> None:
        """Remove the bar and give the cursor back."""
        self._bar.close()
