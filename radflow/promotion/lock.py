"""One promotion at a time, through whatever store MLflow has.

The registry cannot compare and set an alias. What every store does atomically is to number a model's versions, and a
deleted version's number is never given again. So a promotion draws a ticket, a version of a registered model that holds
nothing else; whoever has the lowest ticket has the turn (a bakery lock, Lamport 1974, doi:10.1145/361082.361093). A
ticket whose process died is deleted by whoever waits behind it; since it is deleted by its number, a late deletion
harms nobody else's.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from radflow.errors import JobError
from radflow.tracking.spool import root_cause

LOCK_MODEL = "radflow-promotion-lock"
_DESCRIPTION = (
    "Holds no models: a version is the ticket of a promotion in progress. Made by radflow's `promote`, which deletes "
    "its ticket when it is done."
)

HOLD_SECONDS = 60.0
"""A turn that has lasted so long makes no champion any more."""
STALE_SECONDS = 300.0
"""A ticket that has had the turn for so long belongs to nobody. Far above HOLD_SECONDS, for a request may hang."""

_POLL_SECONDS = 0.3
_ATTEMPTS = 8

_logger = logging.getLogger(__name__)


@contextmanager
def one_promotion_at_a_time(
    client: MlflowClient, run_id: str, stale_seconds: float = STALE_SECONDS
) -> Iterator[Callable[[], None]]:
    """Wait for the turn and have it for the block; `run_id` is the run that the promotion logs to.

    Yields a function to be called right before an alias is set: it raises JobError if the turn has lasted so long that
    others may have taken it.
    """
    ticket = _draw_ticket(client, run_id)
    try:
        _wait_for_turn(client, ticket, stale_seconds)
        began = time.monotonic()

        def check() -> None:
            if time.monotonic() - began > HOLD_SECONDS or ticket not in _tickets(client):
                raise JobError(f"this promotion took over {HOLD_SECONDS:.0f} s to register; nothing was aliased: retry")

        yield check
    finally:
        _give_back(client, ticket)


def _draw_ticket(client: MlflowClient, run_id: str) -> int:
    """Sqlite refuses one of two writers that have read before; whoever is refused has written nothing."""
    source = client.get_run(run_id).info.artifact_uri
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _ensure_lock_model(client)
            return int(client.create_model_version(LOCK_MODEL, source, run_id, await_creation_for=0).version)
        except MlflowException as error:
            if error.error_code != "TEMPORARILY_UNAVAILABLE" or attempt == _ATTEMPTS:
                raise
            time.sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311 - spreads retries
    raise AssertionError("unreachable")


def _ensure_lock_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(LOCK_MODEL, description=_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _wait_for_turn(client: MlflowClient, ticket: int, stale_seconds: float) -> None:
    first, since = 0, time.monotonic()
    while True:
        waiting = _tickets(client)
        if ticket not in waiting:
            raise JobError("this promotion waited so long that another took its turn; retry")
        if min(waiting) == ticket:
            return
        if min(waiting) != first:
            first, since = min(waiting), time.monotonic()
        if time.monotonic() - since > stale_seconds:
            _logger.warning("a promotion has not ended for %.0f s; its turn is over", stale_seconds)
            _give_back(client, first)
        time.sleep(_POLL_SECONDS)


def _tickets(client: MlflowClient) -> set[int]:
    return {int(version.version) for version in client.search_model_versions(f"name = '{LOCK_MODEL}'")}


def _give_back(client: MlflowClient, ticket: int) -> None:
    try:
        client.delete_model_version(LOCK_MODEL, str(ticket))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            _logger.warning("ticket %d of %s could not be deleted: %s", ticket, LOCK_MODEL, root_cause(error))
