"""How each kind of record reaches MLflow."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from radflow.tracking.spool import Record, RefusedError, Spool, root_cause

FAILURE_TAG = "radflow.failure"
"""The tag that says in one line why a run did not finish."""

# MLflow takes at most this many params or tags in one request.
_PAIRS_PER_REQUEST = 100

# Answers that a second attempt will not change; all others (no connection, time-out, 5xx, expired login, a proxy's 404)
# may pass.
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"})


# One line per retry of a request, in an outage of which the sender tells in one.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Delivery:
    """Sends records of one run. Calling it raises RefusedError if MLflow declined the record for good."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._address = spool.address
        self._client = MlflowClient(spool.address.tracking_uri)
        self._send_by_kind = {
            "metrics": self._send_metrics,
            "params": self._send_params,
            "tags": self._send_tags,
            "artifact": self._send_artifact,
            "dataset": self._send_dataset,
            "model": self._send_model,
            "status": self._send_status,
        }

    def __call__(self, record: Record) -> None:
        """Send one record; anything raised but RefusedError means that it is worth a later attempt."""
        try:
            self._send_by_kind[record["kind"]](record)
        except MlflowException as error:
            if error.error_code in _REFUSALS:
                raise RefusedError(root_cause(error)) from error
            raise

    def _send_metrics(self, record: Record) -> None:
        metrics = [Metric(key, value, timestamp, step) for key, value, timestamp, step in record["points"]]
        self._client.log_batch(self._address.run_id, metrics=metrics)

    def _send_params(self, record: Record) -> None:
        for pairs in _portions(record["values"]):
            self._client.log_batch(self._address.run_id, params=[Param(key, value) for key, value in pairs])

    def _send_tags(self, record: Record) -> None:
        for pairs in _portions(record["values"]):
            self._client.log_batch(self._address.run_id, tags=[RunTag(key, value) for key, value in pairs])

    def _send_artifact(self, record: Record) -> None:
        self._client.log_artifact(self._address.run_id, str(self._staged(record)), record["folder"])
        self._spool.forget_file(record["file"])

    def _send_dataset(self, record: Record) -> None:
        dataset = Dataset(
            name=record["name"],
            digest=record["digest"],
            source_type="local",
            source=json.dumps({"uri": record["source"]}),
            profile=json.dumps(record["profile"]),
        )
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, record["context"])]
        self._client.log_inputs(self._address.run_id, datasets=[DatasetInput(dataset, tags)])

    def _send_model(self, record: Record) -> None:
        from radflow.tracking.logged_model import ModelDescription, publish_model

        publish_model(self._client, self._address, self._staged(record), ModelDescription(**record["description"]))
        self._spool.forget_file(record["file"])

    def _send_status(self, record: Record) -> None:
        run_id = self._address.run_id
        if record["replaces"] and self._client.get_run(run_id).info.status not in record["replaces"]:
            return
        if record["reason"]:
            self._client.set_tag(run_id, FAILURE_TAG, record["reason"])
        self._client.set_terminated(run_id, record["status"], record["end_time"])

    def _staged(self, record: Record) -> Path:
        path = self._spool.folder / record["file"]
        if not path.exists():
            raise RefusedError(f"{path} is gone")
        return path


def _portions(values: Mapping[str, str]) -> Iterator[list[tuple[str, Any]]]:
    pairs = iter(values.items())
    while portion := list(islice(pairs, _PAIRS_PER_REQUEST)):
        yield portion
