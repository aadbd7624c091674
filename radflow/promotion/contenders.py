"""Who competes: finished runs of a family with a model and test predictions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions
from radflow.promotion.policy import Family
from radflow.training.assessment import predictions_of_run
from radflow.training.leakage import LEAKAGE_METRIC, VALIDATION_METRIC

SELECTION_METRIC = "best/val_auc"
"""The candidate is chosen on validation films, so that the test films judge one candidate, not the luckiest of many."""

ARCH_TAG, TASK_TAG, DIGEST_TAG = "radflow.arch", "radflow.task", "radflow.data_digest"


@dataclass(frozen=True)
class Contender:
    """A run's model as promotion judges it."""

    run: Run
    predictions: Predictions | UserError
    """Predictions of the test films, or why there are none."""

    @property
    def digest(self) -> str:
        """Digest of the dataset's manifest, which covers its films, labels and split."""
        return self.run.data.tags.get(DIGEST_TAG, "")

    @property
    def seen_patients(self) -> int | None:
        """Patients of the test films that the model has seen in training; None where the run has not counted them."""
        seen = self.run.data.metrics.get(LEAKAGE_METRIC)
        return None if seen is None else int(seen)

    def tested(self) -> Predictions:
        """The predictions of the test films; raises UserError where there are none."""
        if isinstance(self.predictions, UserError):
            raise self.predictions
        return self.predictions

    @property
    def model_uri(self) -> str:
        """URI of the model that the run logged."""
        return f"models:/{self.run.outputs.model_outputs[0].model_id}"

    @property
    def label(self) -> str:
        """Name and id of the run, as a table shows them."""
        return f"{self.run.info.run_name} ({self.run.info.run_id[:8]})"


def contender_of(run: Run) -> Contender:
    """Fetch what the run predicted of the test films."""
    try:
        return Contender(run, _test_predictions(run.info.run_id))
    except UserError as reason:
        return Contender(run, reason)


def run_of(client: MlflowClient, version: ModelVersion) -> Run:
    """The run that a version comes from; raises UserError where it is gone."""
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        raise UserError(
            f"the run of {version.name} version {version.version}, its champion, is gone; take the alias champion away "
            "to start again"
        ) from error


def named_run(client: MlflowClient, run_id: str) -> Run:
    """The run that the user named; raises UserError unless it can compete."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"run={run_id} is not a run of this MLflow; give the 32-character id of a training") from error
    if run.info.lifecycle_stage != "active" or run.info.status != "FINISHED" or not run.outputs.model_outputs:
        raise UserError(f"run={run_id} cannot be promoted: expected a finished training with a logged model")
    return run


def best_run(client: MlflowClient, family: Family, digest: str | None, without: Collection[str]) -> Run | None:
    """The run with the highest validation AUC on one dataset (the newest run's without a digest) not in `without`.

    Runs that were judged on patients seen in training come last: their validation AUC would win, and be refused.
    """
    candidates = []
    for run in _finished_runs(client, family):
        digest = digest or run.data.tags.get(DIGEST_TAG, "")
        if run.data.tags.get(DIGEST_TAG) == digest and run.info.run_id not in without:
            candidates.append(run)
    return max(candidates, key=lambda run: (not _leaks(run), run.data.metrics[SELECTION_METRIC]), default=None)


def _leaks(run: Run) -> bool:
    return any(run.data.metrics.get(key, 0) > 0 for key in (LEAKAGE_METRIC, VALIDATION_METRIC))


def _finished_runs(client: MlflowClient, family: Family) -> Iterator[Run]:
    """Finished runs of the family with a model, newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
    of_family = f"tags.`{ARCH_TAG}` = '{family.arch}' and tags.`{TASK_TAG}` = '{family.task}'"
    conditions = f"attributes.status = 'FINISHED' and {of_family}"
    token = None
    while token != "":
        page = client.search_runs(
            experiments, conditions, order_by=["attributes.start_time DESC"], max_results=1000, page_token=token
        )
        for run in page:
            if run.outputs.model_outputs and math.isfinite(run.data.metrics.get(SELECTION_METRIC, math.nan)):
                yield run
        token = page.token or ""


def _test_predictions(run_id: str) -> Predictions:
    return predictions_of_run(run_id).of_split("test")
