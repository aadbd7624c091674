from __future__ import annotations

import threading
import time

import pytest
from mlflow import MlflowClient

from radflow.errors import JobError
from radflow.promotion import lock
from radflow.promotion.lock import LOCK_MODEL, one_promotion_at_a_time


@pytest.fixture
def run_id(store: MlflowClient) -> str:
    return store.create_run("0").info.run_id


def tickets(store: MlflowClient) -> list[str]:
    return [str(version.version) for version in store.search_model_versions(f"name = '{LOCK_MODEL}'")]


def test_turns_do_not_overlap(store: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.02)
    inside, most, done = [0], [0], [0]

    def promote() -> None:
        client = MlflowClient(store.tracking_uri)
        for _ in range(2):
            with one_promotion_at_a_time(client, run_id) as check_turn:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.02)
                check_turn()
                done[0] += 1
                inside[0] -= 1

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most[0], done[0]) == (1, 8)
    assert tickets(store) == []


def test_a_turn_ends_with_an_error_too(store: MlflowClient, run_id: str) -> None:
    with pytest.raises(ZeroDivisionError), one_promotion_at_a_time(store, run_id):
        raise ZeroDivisionError
    assert tickets(store) == []


def test_the_turn_of_a_dead_promotion_passes_on(store: MlflowClient, run_id: str) -> None:
    """A killed process leaves its ticket; those behind it wait, and go on."""
    dead = lock._draw_ticket(store, run_id)
    began = time.monotonic()
    with one_promotion_at_a_time(store, run_id, stale_seconds=0.5):
        assert time.monotonic() - began > 0.5
        assert str(dead) not in tickets(store)


def test_a_turn_that_was_taken_makes_no_champion(store: MlflowClient, run_id: str) -> None:
    with one_promotion_at_a_time(store, run_id) as check_turn:
        check_turn()
        (own,) = tickets(store)
        store.delete_model_version(LOCK_MODEL, own)
        with pytest.raises(JobError, match="nothing was aliased"):
            check_turn()


def test_a_turn_that_lasts_too_long_makes_no_champion(
    store: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with one_promotion_at_a_time(store, run_id) as check_turn:
        monkeypatch.setattr(lock, "HOLD_SECONDS", 0.0)
        with pytest.raises(JobError, match="nothing was aliased"):
            check_turn()
    assert lock.STALE_SECONDS > 4 * 60.0


def test_a_number_is_never_given_twice(store: MlflowClient, run_id: str) -> None:
    """What a late deletion of a dead ticket relies on."""
    drawn = []
    for _ in range(3):
        with one_promotion_at_a_time(store, run_id):
            drawn += tickets(store)
    assert drawn == ["1", "2", "3"]
