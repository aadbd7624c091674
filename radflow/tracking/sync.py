"""Sending what runs left in the spool when they ended during an outage."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from radflow.errors import UserError
from radflow.secrets import hide_secrets
from radflow.tracking.delivery import Delivery
from radflow.tracking.spool import (
    SPOOL_FOLDER,
    Record,
    RefusedError,
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

    Raises UserError if there is no such folder or, after all runs have been tried, if something waits on: a server does
    not answer, or refuses, for it no longer has the run. Nothing that was not taken is removed.
    """
    if not folder.is_dir():
        raise UserError(f"no spool at {folder}; expected the folder that a run named when it could not reach MLflow")
    sent = 0
    problems: list[str] = []
    for description in sorted(folder.glob("*/run.json")):
        try:
            address = RunAddress.read(description)
            if tracking_uri:
                address = replace(address, tracking_uri=tracking_uri)
            sent += _sync_run(folder, address, problems)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; and ".join([f"{sent} records sent, but {problems[0]}", *problems[1:]]))
    return sent


def _sync_run(folder: Path, address: RunAddress, problems: list[str]) -> int:
    """Send what waits of one run; how many records were sent. What was not goes into `problems`, a line each."""
    try:
        spool = Spool(folder, address)
    except BlockingIOError:
        _logger.warning("run %s is still in progress; it sends its records itself", address.run_id)
        return 0
    records = spool.read()
    silent_end = [] if any(record["kind"] == "status" for record in records) else [_silent_end()]
    refused: list[Record] = []
    reasons: list[RefusedError] = []

    def keep(record: Record, refusal: RefusedError) -> None:
        reasons.append(refusal)
        if record not in silent_end:
            refused.append(record)

    waiting, failure = send_in_order(records + silent_end, Delivery(spool), keep)
    left = [record for record in waiting if record not in silent_end] + refused
    if left or failure is not None:
        spool.replace(left)
    spool.close(keep=bool(left) or failure is not None)
    server = hide_secrets(address.tracking_uri)
    if failure is not None:
        problems.append(
            f"MLflow at {server} does not take the {len(waiting)} records in {spool.folder}: {root_cause(failure)}; "
            "they wait on: sync again when the server is back"
        )
    if refused:
        problems.append(
            f"MLflow at {server} refuses {len(refused)} records in {spool.folder}: {root_cause(reasons[0])}; they are "
            "kept: sync with --to URI of the server that has this run, or delete the folder"
        )
    return max(0, len(records) - len(left))


def _silent_end() -> Record:
    return status_record("FAILED", "the process ended without a word while MLflow did not answer", ["RUNNING"])
