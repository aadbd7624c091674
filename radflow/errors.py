"""The errors that a command turns into exit codes."""

from __future__ import annotations

import signal

MISTAKE = 2
"""Exit code of a command that was used wrongly."""
FAILURE = 1
"""Exit code of a command that was used well and failed."""


class UserError(Exception):
    """A mistake in what the user gave: its text is one line, and the command ends with exit code 2.

    The text says what was given, what was expected and how to fix it.
    """


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop. A KeyboardInterrupt, so that no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"received {self.signal.name}")
        self.exit_code = 128 + number


def signals_to_stop() -> list[int]:
    """The signals on which a job stops and keeps what it has.

    SIGUSR1 is what schedulers send ahead of a time limit. A SIGHUP that is ignored stays so: under nohup a job outlives
    its terminal.
    """
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *hangup]


class JobError(Exception):
    """A job that failed for a reason that its text tells: one line, exit code 1."""
