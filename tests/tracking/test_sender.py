from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from radflow.tracking.sender import Sender
from radflow.tracking.spool import Record, Spool, status_record

FINISHED = status_record("FINISHED", "")


def point(step: int) -> Record:
    return {"kind": "metrics", "points": [["train/loss", 0.5, 1000 + step, step]]}


class Store:
    """A tracking store that can be down, and that remembers the steps and statuses it took."""

    def __init__(self) -> None:
        self.down = False
        self.taken: list[Any] = []
        self.hang = threading.Event()
        self.hang.set()

    def __call__(self, record: Record) -> None:
        self.hang.wait()
        if self.down:
            raise ConnectionError("refused")
        if record["kind"] == "metrics":
            self.taken += [step for _, _, _, step in record["points"]]
        else:
            self.taken.append(record["status"])


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def spool(open_spool: Callable[[], Spool]) -> Spool:
    return open_spool()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.01)


def test_everything_arrives_in_order_with_the_status_last(store: Store, spool: Spool) -> None:
    sender = Sender(store, spool)
    for step in range(2500):
        sender.put(point(step))
    assert sender.close(FINISHED, patience=20) == 0
    assert store.taken == [*range(2500), "FINISHED"]
    assert spool.read() == []


def test_an_outage_loses_nothing_and_repeats_nothing(
    store: Store, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(store, spool, first_wait=0.05)
    sender.put(point(0))
    wait_until(lambda: store.taken == [0])
    store.down = True
    for step in (1, 2):
        sender.put(point(step))
        wait_until(lambda step=step: [record["points"][-1][3] for record in spool.read()][-1:] == [step])
    store.down = False
    wait_until(lambda: store.taken == [0, 1, 2])
    sender.put(point(3))
    assert sender.close(FINISHED, patience=20) == 0
    assert store.taken == [0, 1, 2, 3, "FINISHED"]
    assert caplog.text.count("MLflow does not answer (refused)") == 1
    assert caplog.text.count("MLflow answers again") == 1


def test_what_cannot_be_sent_at_the_end_waits_on_disk_with_the_status(store: Store, spool: Spool) -> None:
    store.down = True
    sender = Sender(store, spool)
    sender.put(point(0))
    assert sender.close(FINISHED, patience=20) == 2
    assert spool.read() == [point(0), FINISHED]


def test_a_request_that_hangs_cannot_hold_the_end_of_the_run(store: Store, spool: Spool) -> None:
    store.hang.clear()
    sender = Sender(store, spool)
    sender.put(point(0))
    wait_until(lambda: sender._queue.empty())
    sender.put(point(1))
    assert sender.close(FINISHED, patience=0.1) == 3
    assert [step for record in spool.read()[:-1] for *_, step in record["points"]] == [0, 1]
    assert spool.read()[-1] == FINISHED
    store.hang.set()


def test_a_killed_run_says_so_before_anything_else(store: Store, spool: Spool) -> None:
    store.hang.clear()
    sender = Sender(store, spool)
    sender.put(point(0))
    wait_until(lambda: sender._queue.empty())
    sender.put(point(1))
    threading.Timer(0.2, store.hang.set).start()
    assert sender.close(status_record("KILLED", "killed by SIGTERM"), patience=20, urgent=True) == 0
    assert store.taken == [0, "KILLED", 1]


def test_a_later_process_of_the_same_run_sends_what_waited_but_not_the_old_end(
    store: Store, spool: Spool, open_spool: Callable[[], Spool]
) -> None:
    spool.append([point(0), point(1), status_record("FAILED", "first attempt")])
    spool.close(keep=True)
    again = open_spool()
    sender = Sender(store, again)
    sender.put(point(2))
    assert sender.close(FINISHED, patience=20) == 0
    assert store.taken == [0, 1, 2, "FINISHED"]
    assert again.read() == []
