"""The worker processes of a search on this machine: started, watched, replaced and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from radflow.config import command_line
from radflow.errors import MISTAKE, JobError
from radflow.processes import ends_with_parent, stop
from radflow.search.config import JOURNAL, SearchConfig
from radflow.terminal import say
from radflow.training.child_process import PATIENCE

WORKER = "RADFLOW_SEARCH_WORKER"
"""Variable of a worker's environment: its number, from 0."""
STORAGE = "RADFLOW_SEARCH_STORAGE"
"""Variable of a worker's environment: where the study is. A command line, which all can read, holds no password."""
_DEATHS = 10
"""Workers that may be killed before the search asks what is wrong with the machine."""
_LOOK_EVERY = 1.0


def keep_workers_running(config: SearchConfig, on_poll: Callable[[], None]) -> None:
    """Start the workers, replace those that are killed, and return when all have found nothing more to do.

    `on_poll` is called about once a second. All workers and their trainings end with this function, however it ends.
    """
    workers = {number: _start_worker(config, number) for number in range(config.workers)}
    deaths = 0
    try:
        while workers:
            time.sleep(_LOOK_EVERY)
            on_poll()
            for number, process in list(workers.items()):
                code = process.poll()
                if code is None:
                    continue
                del workers[number]
                if code == MISTAKE:
                    sys.exit(MISTAKE)  # the worker has said in its one line what was wrong
                if code > 0:
                    raise JobError(f"worker {number} ended with exit code {code}; the reason is above")
                if code < 0:
                    deaths += 1
                    if deaths > _DEATHS:
                        raise JobError(
                            f"{deaths} workers were killed; is there too little memory for {config.workers}?"
                        )
                    say(f"worker {number} was killed by {signal.Signals(-code).name}; another takes its place")
                    workers[number] = _start_worker(config, number)
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            stop(process, 2 * PATIENCE)


def _start_worker(config: SearchConfig, number: int) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: a Ctrl-C of the terminal reaches it through this process, once."""
    return subprocess.Popen(
        [sys.executable, "-m", "radflow", "search", *command_line(replace(config, storage=JOURNAL))],
        env={**os.environ, WORKER: str(number), STORAGE: config.storage},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ends_with_parent(),
    )
