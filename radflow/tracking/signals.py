"""How a run ends: signals become an exception, and an exception becomes a status and a reason."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from radflow.errors import Interrupted, signals_to_stop

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"

_REASON_LENGTH = 500


class SignalGate:
    """What a signal does: wait until `open()`, then raise Interrupted once, and after `close()` nothing any more.

    A second signal must not tear what the first has begun: on Ctrl-C MLflow sends SIGTERM to a job that has received
    SIGINT already and is writing its checkpoint.
    """

    def __init__(self) -> None:
        self._waits = True
        self._closed = False
        self._arrived: int | None = None

    def open(self) -> None:
        """Let signals raise from here on; one that came before raises now."""
        self._waits = False
        if self._arrived is not None:
            self.close()
            raise Interrupted(self._arrived)

    def close(self) -> None:
        """Ignore signals from here on: what remains of the run is short, and must not be torn."""
        self._closed = True

    def __call__(self, signal_number: int, _frame: FrameType | None) -> None:
        """Receive a signal (the signature is a signal handler's)."""
        if self._closed:
            return
        if self._waits:
            self._arrived = self._arrived or signal_number
            return
        self.close()
        raise Interrupted(signal_number)


@contextmanager
def signals_raise() -> Iterator[SignalGate]:
    """Turn the signals to stop into Interrupted while the gate is open; the former handlers come back.

    Outside the main thread, where Python allows no handlers, the block
    runs with the handlers that there are.
    """
    gate = SignalGate()
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in signals_to_stop():
            former[number] = signal.signal(number, gate)
    try:
        yield gate
    finally:
        for number, handler in former.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def status_and_reason(error: BaseException | None) -> tuple[str, str]:
    """Tell the MLflow status of a run that ended with `error` (None: well), and why, in one line ('' if well)."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return FINISHED, ""
    if isinstance(error, KeyboardInterrupt):
        return KILLED, str(error) or "received SIGINT"
    if isinstance(error, SystemExit):
        return FAILED, f"exit code {error.code}"
    first_line = str(error).strip().partition("\n")[0]
    reason = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return FAILED, reason[:_REASON_LENGTH]
