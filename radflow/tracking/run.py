"""One MLflow run for one job: started or resumed, fed through the spool, and ended with the right status."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from radflow.errors import UserError
from radflow.secrets import hide_secrets
from radflow.tracking.connection import find_or_create_experiment, prepare_tracking, show_as_training, where_to_look
from radflow.tracking.keep_killed import keep_killed
from radflow.tracking.metrics import check_metric_key
from radflow.tracking.sender import Sender
from radflow.tracking.signals import FAILED, FINISHED, KILLED, signals_raise, status_and_reason
from radflow.tracking.spool import SPOOL_FOLDER, RunAddress, Spool, root_cause, send_in_order, status_record
from radflow.tracking.tracked_run import SilentRun, TrackedRun

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

__all__ = [
    "Run",
    "SilentRun",
    "TrackedRun",
    "close_abandoned_run",
    "create_run",
    "fail_open_runs",
    "resume_run",
    "tracking_run",
]

# MLflow's limits, in characters (a dataset digest's is the width of its database column).
_PARAM_LENGTH, _TAG_LENGTH, _DIGEST_LENGTH = 6000, 8000, 36

# Seconds that the end of a run waits for the server. A scheduler that sends SIGTERM kills soon after.
_PATIENCE = {FINISHED: 120.0, FAILED: 30.0, KILLED: 10.0}

STUDY_TAG = "radflow.study"
"""Names the study that a run is part of; its other runs have the same."""

# What the UI shows, rendered, on a run's page.
_NOTE_TAG = "mlflow.note.content"

# Where the UI's evaluation tab looks for tables.
_TABLES_TAG = "mlflow.loggedArtifacts"

_SPLIT_OF_CONTEXT = {"training": "train", "validation": "val", "testing": "test"}

_logger = logging.getLogger(__name__)

_open_runs: list[Run] = []
"""Those that this process owns now."""


class Run:
    """A run that this process owns. Calls return at once; a background thread sends (see sender.py)."""

    def __init__(self, client: MlflowClient, spool: Spool, entity: MlflowRun) -> None:
        from radflow.tracking.delivery import Delivery
        from radflow.tracking.system_metrics import SpooledSystemMetrics

        self._client = client
        self._spool = spool
        self._experiment_id = entity.info.experiment_id
        self._tables = json.loads(entity.data.tags.get(_TABLES_TAG, "[]"))
        self._sender = Sender(Delivery(spool), spool)
        self._latest_points: dict[str, tuple[str, float, int, int]] = {}
        self._system_metrics = SpooledSystemMetrics(entity, self.log_metrics)
        self._system_metrics.start()

    @property
    def run_id(self) -> str:
        """See TrackedRun."""
        return self._spool.address.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See TrackedRun."""
        for key in metrics:
            check_metric_key(key)
        now = int(time.time() * 1000)
        points = [(key, float(value), now, int(step)) for key, value in metrics.items()]
        self._latest_points.update((point[0], point) for point in points)
        self._sender.put({"kind": "metrics", "points": points})

    def log_params(self, params: Mapping[str, object]) -> None:
        """See TrackedRun."""
        self._sender.put({"kind": "params", "values": _cut(params, _PARAM_LENGTH)})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """See TrackedRun."""
        self._sender.put({"kind": "tags", "values": _cut(tags, _TAG_LENGTH)})

    def set_note(self, markdown: str) -> None:
        """See TrackedRun."""
        self.set_tags({_NOTE_TAG: markdown})

    def log_figure(self, figure: Figure, path: str) -> None:
        """See TrackedRun."""
        with self._artifact(path) as file:
            figure.savefig(file)

    def log_file(self, path: Path, folder: str = "") -> None:
        """See TrackedRun."""
        with self._artifact(f"{folder}/{path.name}") as file:
            shutil.copyfile(path, file)

    def log_text(self, text: str, path: str) -> None:
        """See TrackedRun."""
        with self._artifact(path) as file:
            file.write_text(text, encoding="utf-8")

    def log_table(self, table: pd.DataFrame | Mapping[str, list[Any]], path: str) -> None:
        """See TrackedRun."""
        import pandas as pd

        # MLflow's own log_table appends to what is there, so that a repeated sending would double the rows.
        with self._artifact(path) as file:
            pd.DataFrame(table).to_json(file, orient="split", index=False, date_format="iso")
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            self._tables.append(entry)
        self.set_tags({_TABLES_TAG: json.dumps(self._tables)})

    def log_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """See TrackedRun."""
        if context not in _SPLIT_OF_CONTEXT:
            raise ValueError(f"dataset context {context!r}; expected one of {', '.join(_SPLIT_OF_CONTEXT)}")
        self._sender.put(
            {
                "kind": "dataset",
                "name": f"{name}/{_SPLIT_OF_CONTEXT[context]}",
                "digest": digest[:_DIGEST_LENGTH],
                "source": str(source),
                "profile": {**profile, "digest": digest},
                "context": context,
            }
        )

    def log_model(
        self,
        write: Callable[[Path], None],
        name: str = "model",
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> str | None:
        """See TrackedRun. Unlike the other calls it sends at once, since the caller wants the URI."""
        from radflow.tracking.logged_model import ModelDescription, publish_model

        description = ModelDescription(
            name,
            points=[self._point_of(key, value) for key, value in (metrics or {}).items()],
            params=_cut(params or {}, _PARAM_LENGTH),
        )
        folder, relative = self._spool.new_file("model")
        write(folder)
        try:
            uri = publish_model(self._client, self._spool.address, folder, description)
        except Exception as error:  # noqa: BLE001 - any client's failure: the trained model must not be lost for it
            _logger.warning("the model waits in %s: %s", folder, root_cause(error))
            self._sender.put({"kind": "model", "file": relative, "description": asdict(description)})
            return None
        self._spool.forget_file(relative)
        return uri

    def url(self) -> str:
        """See TrackedRun."""
        return where_to_look(self._spool.address.tracking_uri, self._experiment_id, self.run_id)

    def close(self, status: str, reason: str) -> None:
        """End the run (FINISHED, FAILED or KILLED) and send what waits; say what could not be sent."""
        self._system_metrics.finish()
        record = status_record(status, reason)
        waiting = self._sender.close(record, _PATIENCE[status], urgent=status != FINISHED)
        self._spool.close(keep=waiting > 0)
        if waiting:
            _logger.warning(
                "%d records of run %s wait in %s: send them with `radflow sync` when MLflow is back",
                waiting,
                self.run_id,
                self._spool.folder,
            )

    @contextmanager
    def _artifact(self, path: str) -> Iterator[Path]:
        """Yield the file to write; then hand it over, to be stored under `path` and removed here."""
        target = PurePosixPath(path.lstrip("/"))
        file, relative = self._spool.new_file(target.name)
        yield file
        folder = None if target.parent == PurePosixPath(".") else str(target.parent)
        self._sender.put({"kind": "artifact", "file": relative, "folder": folder})

    def _point_of(self, key: str, value: float) -> tuple[str, float, int, int]:
        """Find the point as it was logged, so that the model's metric is not a second point of the run."""
        check_metric_key(key)
        latest = self._latest_points.get(key)
        if latest is not None and latest[1] == float(value):
            return latest
        return (key, float(value), int(time.time() * 1000), 0)


@contextmanager
def tracking_run(
    name: str,
    config: Mapping[str, object],
    tags: Mapping[str, str] | None = None,
    spool_folder: Path = SPOOL_FOLDER,
) -> Iterator[Run]:
    """Own one MLflow run for the length of the block.

    The run of MLFLOW_RUN_ID is resumed (so `mlflow run` and a restarted job go on in theirs), else one called `name` is
    started. `config` is logged once as params `cfg/<key>`. Where a resumed run had another value, the new one becomes
    the tag `resumed/cfg/<key>`, since params never change.

    The run ends FINISHED, FAILED when the block raises (the tag `radflow.failure` says why), or KILLED on a signal to
    stop (errors.signals_to_stop), which is raised in the block as Interrupted (main thread only). It never stays
    RUNNING, short of SIGKILL: then the launcher calls close_abandoned_run.

    Raises UserError if MLflow cannot be reached, or if there is no such run. Later outages raise nothing: see spool.py.
    """
    with signals_raise() as gate:
        run = _start(name, config, tags or {}, spool_folder)
        _open_runs.append(run)
        error: BaseException | None = None
        try:
            try:
                gate.open()
                yield run
            finally:
                gate.close()
        except BaseException as caught:
            error = caught
            raise
        finally:
            status, reason = status_and_reason(error)
            _open_runs.remove(run)
            run.close(status, reason)
            if status == KILLED:
                keep_killed(run.run_id)


def fail_open_runs(reason: str) -> None:
    """End the runs of this process as FAILED, from another thread than theirs, before it ends without unwinding."""
    for run in _open_runs:
        closing = threading.Thread(target=run.close, args=(FAILED, reason), daemon=True)
        closing.start()
        closing.join(2 * _PATIENCE[FAILED])  # closing gives up by itself before that


def resume_run(run_id: str) -> None:
    """Let the next `tracking_run` go on in an earlier run.

    A run that `mlflow run` has made for this process stays empty but for a note that names the earlier one.
    """
    prepare_tracking()
    started = os.environ.get("MLFLOW_RUN_ID", run_id)
    if started != run_id:
        from mlflow import MlflowClient

        MlflowClient().set_tag(started, _NOTE_TAG, f"Goes on in run {run_id}.")
    os.environ["MLFLOW_RUN_ID"] = run_id


def create_run(name: str, tags: Mapping[str, str] | None = None) -> str:
    """Id of the run that a job will log to: that of MLFLOW_RUN_ID, or a new one called `name` with these tags.

    For a launcher, whose ranks are to log to it; `tracking_run` resumes it where MLFLOW_RUN_ID names it.
    """
    uri = prepare_tracking()
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        return run_id
    from mlflow import MlflowClient

    with _as_user_errors(uri, "start a run"):
        return _create(MlflowClient(uri), uri, name, tags).info.run_id


def close_abandoned_run(
    run_id: str,
    reason: str = "the process ended without a word",
    status: str = FAILED,
    replaces: Sequence[str] = ("RUNNING",),
    spool_folder: Path = SPOOL_FOLDER,
    patience: float = 0.0,
) -> None:
    """End a run whose process died without a word (SIGKILL, out of memory); another status than `replaces` stays.

    A process that still holds the run is waited for, `patience` seconds long. If MLflow does not answer, the status
    waits in the spool like everything else.
    """
    import mlflow

    from radflow.tracking.delivery import Delivery

    deadline = time.monotonic() + patience
    while True:
        try:
            spool = Spool(spool_folder, RunAddress(mlflow.get_tracking_uri(), run_id))
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                _logger.warning("run %s is not abandoned: its process is still there", run_id)
                return
            time.sleep(0.2)
    waiting, failure = send_in_order([status_record(status, reason, replaces)], Delivery(spool))
    if failure is not None:
        spool.append(waiting)
        _logger.warning("run %s could not be closed; its status waits in %s for `radflow sync`", run_id, spool.folder)
    spool.close(keep=bool(spool.read()))


def _start(name: str, config: Mapping[str, object], tags: Mapping[str, str], spool_folder: Path) -> Run:
    uri = prepare_tracking()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    # Taken out of the environment, as MLflow does: a second run of this process is another run.
    run_id = os.environ.pop("MLFLOW_RUN_ID", "")
    with _as_user_errors(uri, f"resume run {run_id} of MLFLOW_RUN_ID" if run_id else "start a run"):
        entity = _resume(client, run_id, name) if run_id else _create(client, uri, name)
    show_as_training(client, entity.info.experiment_id)
    try:
        spool = Spool(spool_folder, RunAddress(uri, entity.info.run_id))
    except BlockingIOError as error:
        raise UserError(f"run {run_id} is in progress elsewhere; let it end first, or unset MLFLOW_RUN_ID") from error
    run = Run(client, spool, entity)
    params, changes = _new_params(config, entity.data.params)
    run.log_params(params)
    run.set_tags({**tags, **changes})
    return run


@contextmanager
def _as_user_errors(uri: str, what: str) -> Iterator[None]:
    """Turn MLflow's refusals into one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"MLflow at {hide_secrets(uri)} cannot {what}: {root_cause(error)}") from error


def _create(client: MlflowClient, uri: str, name: str, tags: Mapping[str, str] | None = None) -> MlflowRun:
    from mlflow.tracking.context import registry

    experiment_id = find_or_create_experiment(client, uri)
    # The tags that mlflow.start_run sets: user, source file, git commit.
    return client.create_run(experiment_id, run_name=name, tags={**registry.resolve_tags(), **(tags or {})})


def _resume(client: MlflowClient, run_id: str, name: str) -> MlflowRun:
    entity = client.get_run(run_id)
    if entity.info.lifecycle_stage != "active":
        raise UserError(f"MLFLOW_RUN_ID names run {run_id}, which is deleted; restore it or unset MLFLOW_RUN_ID")
    # `mlflow run` without --run-name gives a random name; a name that somebody chose stays.
    new_name = name if _is_random_name(entity.info.run_name or "") else None
    client.update_run(run_id, status="RUNNING", name=new_name)
    return client.get_run(run_id)


def _is_random_name(name: str) -> bool:
    """Whether MLflow made the name up: two words of its lists and a number, 'clean-mouse-597'."""
    from mlflow.utils import name_utils

    first, _, rest = name.partition("-")
    second, _, number = rest.partition("-")
    return first in name_utils._GENERATOR_PREDICATES and second in name_utils._GENERATOR_NOUNS and number.isdigit()


def _new_params(config: Mapping[str, object], logged: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split into params that the run does not have yet, and a tag for each that it has with another value."""
    wanted = _cut({f"cfg/{key}": value for key, value in config.items()}, _PARAM_LENGTH)
    new = {key: value for key, value in wanted.items() if key not in logged}
    changed = {f"resumed/{key}": value for key, value in wanted.items() if logged.get(key, value) != value}
    return new, changed


def _cut(values: Mapping[str, object], length: int) -> dict[str, str]:
    return {key: str(value)[:length] for key, value in values.items()}
