"""Sending what runs left in the spool when they ended during an outage."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from radflow.errors import UserError
from radflow.secrets import hide_secrets
from radflow.tracking.delivery import Delivery
from radflow.tracking.spool import (
    SPOOL_FOLDER,
    Record,
    RunAddress,
    Spool,
    root_cause,
    send_in_order,
    status_record,
)

_logger = logging.getLogger(__name__)


def sync_spool(folder: Path = SPOOL_FOLDER, tracking_uri: str | None = None) -> int:
    """Send what waits under `folder` and return how many records were sent; runs still in progress are left alone.

    `tracking_uri` replaces the address that the runs were started with, for a server that has moved. A run that ended
    without a word (killed during the outage) becomes FAILED.

    Raises UserError if there is no such folder or if the server still does not answer; what waits then still waits.
    """
    if not folder.is_dir():
        raise UserError(f"no spool at {folder}; expected the folder that a run named when it could not reach MLflow")
    sent = 0
    for description in sorted(folder.glob("*/run.json")):
        fields = json.loads(description.read_text(encoding="utf-8"))
        address = RunAddress(**(fields | ({"tracking_uri": tracking_uri} if tracking_uri else {})))
        sent += _sync_run(folder, address)
    return sent


def _sync_run(folder: Path, address: RunAddress) -> int:
    try:
        spool = Spool(folder, address)
    except BlockingIOError:
        _logger.warning("run %s is still in progress; it sends its records itself", address.run_id)
        return 0
    records = spool.read()
    silent_end = [] if any(record["kind"] == "status" for record in records) else [_silent_end()]
    waiting, failure = send_in_order(records + silent_end, Delivery(spool))
    if failure is not None:
        spool.replace(waiting)
    spool.close(keep=bool(waiting))
    if failure is not None:
        server = hide_secrets(address.tracking_uri)
        raise UserError(
            f"MLflow at {server} does not take the {len(waiting)} records in {spool.folder}: {root_cause(failure)}; "
            "they wait on: sync again when the server is back"
        ) from failure
    return len(records)


def _silent_end() -> Record:
    return status_record("FAILED", "the process ended without a word while MLflow did not answer", ["RUNNING"])
