"""Whether the machine is quiet: figures that others' work moves are not reported."""

from __future__ import annotations

import sys
import time

import numpy as np
import psutil

BUSY = 0.1
"""Share of all cores that other processes may take."""
MOVED = 0.05
"""Relative change of the machine's speed between measurements that are compared."""
_SIDE, _TIMES = 1536, 5


def calibrate() -> float:
    """Seconds of the same matrix product on all cores, the least of some."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return min(seconds)


class Referee:
    """Watches the speed of the machine while others are measured on it."""

    def __init__(self) -> None:
        self.refuse_if_busy()
        calibrate()  # the first one takes memory and wakes threads
        self.seconds = calibrate()

    def refuse_if_busy(self) -> None:
        """End the run where other processes are at work."""
        share = psutil.cpu_percent(interval=2.0) / 100
        if share > BUSY:
            raise SystemExit(
                f"the machine is busy: other processes take {share:.0%} of its cores, of which {BUSY:.0%} may be; "
                "end them and measure again"
            )

    def has_moved(self) -> bool:
        """Whether the machine has become faster or slower, since it was last asked, than it may; says so if it has."""
        before, self.seconds = self.seconds, calibrate()
        change = self.seconds / before - 1
        if abs(change) > MOVED:
            print(f"the same product takes {change:+.0%} of the time that it took before", file=sys.stderr)
        return abs(change) > MOVED
