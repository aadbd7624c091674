"""Keeps a run KILLED that was stopped under `mlflow run`, which calls each run FAILED that it has cancelled.

MLflow waits for its entry point to end and then overwrites the status, whatever it is: so a small process waits for
MLflow in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import psutil

from radflow.processes import mlflow_run_above
from radflow.tracking.signals import FAILED, KILLED

_PATIENCE_SECONDS = 60.0


def keep_killed(run_id: str) -> None:
    """Say once more that a run was stopped, when the `mlflow run` that has started this process is over."""
    parent = mlflow_run_above()
    if parent is None:
        return
    import mlflow

    subprocess.Popen(
        [sys.executable, "-m", "radflow.tracking.keep_killed", run_id, str(parent.pid)],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """Wait for the process argv[2], and correct the status of run argv[1]."""
    from mlflow import MlflowClient

    run_id, parent = sys.argv[1], int(sys.argv[2])
    with suppress(psutil.Error):
        psutil.Process(parent).wait(_PATIENCE_SECONDS)
    client = MlflowClient()
    run = client.get_run(run_id)
    if run.info.status == FAILED:
        client.set_terminated(run_id, KILLED, run.info.end_time)


if __name__ == "__main__":
    main()
