"""The MLflow runs of a search: one parent for the study and a child for each trial, in which its training goes on."""

from __future__ import annotations

import mlflow
import optuna
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from radflow.tracking.finished_runs import tag_run
from radflow.tracking.run import STUDY_TAG, close_abandoned_run, create_run

STATE_TAG = "radflow.trial_state"
TRIAL_TAG = "radflow.trial"

_PARENT = "mlflow_run"


def parent_run(study: optuna.Study, name: str) -> str:
    """Id of the study's run: made for a new study, and resumed later; to be called under `exclusive`."""
    known = study.user_attrs.get(_PARENT)
    if known and _is_there(known):
        return known
    run_id = create_run(name)
    study.set_user_attr(_PARENT, run_id)
    return run_id


def start_trial_run(study: optuna.Study, number: int) -> str:
    """Make the run of a trial under the study's run and return its id."""
    parent = study.user_attrs[_PARENT]
    tags = {MLFLOW_PARENT_RUN_ID: parent, STUDY_TAG: study.study_name, TRIAL_TAG: str(number)}
    return create_run(f"trial-{number:03d}", tags)


def end_trial_run(run_id: str, state: str, reason: str = "") -> None:
    """Give the run of a trial its true status: complete, pruned or failed, and why.

    A training that ended by itself has set FINISHED or FAILED; one that was pruned ends as KILLED.
    """
    if state == "pruned":
        # FINISHED where its last epochs were quicker than the decision.
        close_abandoned_run(run_id, reason, "KILLED", replaces=("RUNNING", "KILLED", "FINISHED"), patience=30.0)
    elif state == "failed":
        close_abandoned_run(run_id, reason, "FAILED", replaces=("RUNNING", "KILLED"), patience=30.0)
    tag_run(run_id, {STATE_TAG: state})


def _is_there(run_id: str) -> bool:
    try:
        return mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False
