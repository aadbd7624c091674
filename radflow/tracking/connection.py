"""The place where runs are tracked: the tracking URI, whether it answers, and the experiment."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from radflow.errors import UserError
from radflow.locks import only_one_process
from radflow.secrets import hide_secrets
from radflow.tracking.spool import root_cause

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DEFAULT_EXPERIMENT = "0"
_KIND_TAG = "mlflow.experimentKind"
_ANSWER_SECONDS = 4.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def prepare_tracking() -> str:
    """Decide the tracking URI, make sure that it can be written to, and return it; nothing is logged yet.

    MLFLOW_TRACKING_URI decides, else MLflow's own default, `mlflow.db` in the working folder. A sqlite path becomes
    absolute, and the URI goes into the environment, so that child processes agree. A fresh sqlite store is created by
    one process while others that start at the same moment wait. User and password in a server's address become
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: MLflow prints the address at the end of each run.

    Raises UserError in one line, within ten seconds, for a server that does not answer or refuses, and for file stores.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    # Before MLflow is imported (seconds) and long before any training.
    if urlsplit(uri).scheme in ("http", "https"):
        uri = _without_credentials(uri)
        _check_server_answers(uri)
    import mlflow

    uri = uri or mlflow.get_tracking_uri()
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("", "file"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri!r}, a file store, which MLflow no longer writes to; expected "
            "sqlite:///mlflow.db or http://HOST:PORT: set MLFLOW_TRACKING_URI "
            "(`mlflow migrate-filestore` carries old runs over)"
        )
    if scheme == "sqlite":
        uri = _prepare_sqlite(uri)
    elif scheme in _DATABASE_PORTS:
        _check_port_open(uri, scheme)
    mlflow.set_tracking_uri(uri)
    _check_accepts_us(uri)
    return uri


def find_or_create_experiment(client: MlflowClient, uri: str) -> str:
    """Return the experiment id for a new run: MLFLOW_EXPERIMENT_NAME, else MLFLOW_EXPERIMENT_ID, else MLflow's default.

    The default is where `mlflow run` puts its runs. A named experiment that is missing is created; with sqlite its
    artefacts lie in `mlruns` beside the database.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if name:
        existing = client.get_experiment_by_name(name)
        if existing is None:
            return _create_experiment(client, uri, name)
    else:
        existing = client.get_experiment(os.environ.get("MLFLOW_EXPERIMENT_ID") or _DEFAULT_EXPERIMENT)
    if existing.lifecycle_stage != "active":
        raise UserError(
            f"MLflow experiment {existing.name!r} is deleted; restore it (`mlflow experiments restore --experiment-id "
            f"{existing.experiment_id}`) or set MLFLOW_EXPERIMENT_NAME to another name"
        )
    return existing.experiment_id


def show_as_training(client: MlflowClient, experiment_id: str) -> None:
    """Let the MLflow UI open an experiment in its view of trainings, where nobody has said what kind it is.

    Without a kind it guesses, and may open that of language models. A server that does not let us say so is left alone.
    """
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        if _KIND_TAG not in client.get_experiment(experiment_id).tags:
            client.set_experiment_tag(experiment_id, _KIND_TAG, "custom_model_development")


def where_to_look(uri: str, experiment_id: str, run_id: str) -> str:
    """Say how to see a run in the MLflow UI: its page, and for a local store the command that serves it.

    The page names the view of trainings, since the UI opens that of language models where nothing is said.
    """
    shown, is_server = hide_secrets(uri), urlsplit(uri).scheme in ("http", "https")
    address = shown.rstrip("/") if is_server else "http://127.0.0.1:5000"
    page = f"{address}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
    return page if is_server else f"`mlflow ui --backend-store-uri {shown}` and {page}"


def _without_credentials(uri: str) -> str:
    """The address without user and password, which go into the environment instead; as in requests, they win there."""
    user_information, at, host = urlsplit(uri).netloc.rpartition("@")
    if not at:
        return uri
    user, _, password = user_information.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(user), unquote(password)
    return urlsplit(uri)._replace(netloc=host).geturl()


def _check_server_answers(uri: str) -> None:
    import requests

    shown = hide_secrets(uri)
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS)
    except requests.exceptions.SSLError as error:
        raise UserError(
            f"the MLflow server at {shown} has a certificate that this machine does not trust: {root_cause(error)}; "
            "correct MLFLOW_TRACKING_URI or set MLFLOW_TRACKING_SERVER_CERT_PATH"
        ) from error
    except (requests.exceptions.RequestException, UnicodeError) as error:
        raise UserError(
            f"the MLflow server at {shown} does not answer ({root_cause(error)}); start it, correct "
            "MLFLOW_TRACKING_URI, or unset MLFLOW_TRACKING_URI to log into ./mlflow.db"
        ) from error


def _check_accepts_us(uri: str) -> None:
    """One small authenticated question, which an MLflow server only answers to whom it lets in."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    shown = hide_secrets(uri)
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        reason = root_cause(error)
        if getattr(error, "error_code", "") in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
            fix = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), "
                "or let the server allow this host name (--allowed-hosts)"
            )
            raise UserError(f"the MLflow server at {shown} refuses this user: {reason}; {fix}") from error
        raise UserError(
            f"{shown} does not serve MLflow tracking: {reason}; expected an MLflow server or a database that MLflow "
            "can use: correct MLFLOW_TRACKING_URI"
        ) from error


def _check_port_open(uri: str, scheme: str) -> None:
    """MLflow itself would retry a database that is not there for minutes."""
    parts = urlsplit(uri)
    host, port = parts.hostname or "localhost", parts.port or _DATABASE_PORTS[scheme]
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"the database of MLFLOW_TRACKING_URI {hide_secrets(uri)} does not answer on {host}:{port} ({error}); "
            "start it or correct MLFLOW_TRACKING_URI"
        ) from error


def _prepare_sqlite(uri: str) -> str:
    """Create the store under a lock if it is new: two MLflow processes that do so at once break each other's tables."""
    database = Path(unquote(urlsplit(uri).path)[1:])
    if str(database) in (".", ":memory:"):
        raise UserError(f"MLFLOW_TRACKING_URI {uri!r} names no file; expected sqlite:///mlflow.db or another path")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    # A line for each of the dozens of migrations of a fresh store tells the user nothing.
    for chatty in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    database = database.absolute()
    absolute_uri = f"sqlite:///{database}"
    try:
        with only_one_process(database.with_name(f"{database.name}.lock")):
            if not database.exists():
                # MLflow's own client would put the artefacts into `mlruns` of whatever folder this process is in.
                SqlAlchemyStore(absolute_uri, str(database.parent / "mlruns"))
            MlflowClient(absolute_uri).search_experiments(max_results=1)
    except (OSError, MlflowException, SQLAlchemyError) as error:
        reason = root_cause(error)
        raise UserError(
            f"the MLflow store {database} cannot be used: {reason}; make it readable and writable, bring an old store "
            f"up to date with `mlflow db upgrade {absolute_uri}`, or set MLFLOW_TRACKING_URI"
        ) from error
    return absolute_uri


def _create_experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    location = None
    if urlsplit(uri).scheme == "sqlite":
        folder = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        location = str(Path(unquote(urlsplit(uri).path)[1:]).absolute().parent / "mlruns" / folder)
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        # Another process created it between the question and the answer.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name).experiment_id
