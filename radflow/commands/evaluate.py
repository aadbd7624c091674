"""Entry point `evaluate`: a model from anywhere in MLflow, evaluated on any dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.data.dataset.reading import ALL, Dataset
from radflow.data.sample import open_data
from radflow.data.seen_patients import Leakage, SeenPatients
from radflow.errors import UserError
from radflow.inference.config import EvaluateConfig
from radflow.inference.description import Description
from radflow.inference.judged_films import JudgedFilms, judged_films
from radflow.inference.loaded_model import load_classifier
from radflow.inference.subgroup_columns import subgroup_columns
from radflow.plots.report import evaluation_markdown
from radflow.terminal import import_tensorflow, say, warn
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run

if TYPE_CHECKING:
    from radflow.training.assessment import Assessment

BATCH = 32
EXTERNAL = "external"
"""Stands for the split in metrics of films from elsewhere, which no column of a table should mix with others."""
EVALUATION_TAG, MODEL_TAG = "radflow.evaluation", "radflow.model"


def evaluate(config: EvaluateConfig) -> Assessment:
    """Predict films, print what the predictions are worth, and log it with figures in a run of its own.

    Findings that the model and the dataset have in common are tested. Metrics of a dataset that is not the model's own
    are those of `external`. Patients whom the model has seen in training are counted, told and logged first.

    Raises
    ------
    UserError
        No such model or dataset, no common finding, or patients who were trained on, unless overlap=allow.
    """
    set_threads(config.threads)  # which TensorFlow reads once, when it is imported
    import_tensorflow()
    from radflow.inference.split_predictor import SplitPredictor
    from radflow.training.assessment import Subject, assess, log_inputs, predictions_of
    from radflow.training.initial_weights import patients_seen_by, resolve_alias
    from radflow.training.job_folder import make_job_folder
    from radflow.training.leakage import report_leakage
    from radflow.training.looked_at import look_at_films

    dataset = open_data(config.data)
    prepare_tracking()
    model = resolve_alias(config.model)
    loaded = load_classifier(model)
    seen = patients_seen_by(model)
    is_external = not _is_own(dataset, seen, loaded.description)
    split = config.split if config.split != "auto" else ALL if is_external else "test"
    judged = judged_films(dataset, split, loaded.description, loaded.image_size, config.model)
    leakage = seen.leakage(dataset, split)
    _check_overlap(leakage, config)
    _tell(dataset, judged, loaded.description, loaded.image_size)
    tags = {
        "radflow.data_digest": dataset.digest,
        EVALUATION_TAG: EXTERNAL if is_external else split,
        MODEL_TAG: model,
    }
    with tracking_run(f"evaluate-{dataset.name}", flatten(config), tags) as run:
        log_inputs(dataset, (split,), run)
        report_leakage(leakage, "these AUCs are too high", run)
        probabilities = SplitPredictor(loaded.model, BATCH).predict(judged.split)[:, judged.columns]
        predictions = predictions_of(judged.split, judged.outputs.findings, probabilities)
        columns = subgroup_columns(predictions, config.subgroups, config.subgroup_table)
        folder = make_job_folder(Path(config.out), "evaluate")
        title = f"{loaded.model.name} on {dataset.name}, {split} films"
        subject = Subject(tags[EVALUATION_TAG], title, model, dataset, leakage)
        sections = look_at_films(loaded.model, dataset, judged, predictions, folder, run)
        assessment = assess(predictions, judged.outputs, subject, folder, run, columns=columns, extra=sections)
        evaluation = assessment.evaluation
        run.set_note(evaluation_markdown(title, evaluation.aucs, evaluation.mean_auc.interval, leakage.warning))
        return assessment


def _is_own(dataset: Dataset, seen: SeenPatients, description: Description) -> bool:
    """Whether the model was trained on the dataset, or on another edition of it."""
    return seen.knows(dataset) or description.about.get("data_digest") == dataset.digest


def _check_overlap(leakage: Leakage, config: EvaluateConfig) -> None:
    if leakage.trained and config.overlap == "refuse":
        raise UserError(
            f"{leakage}; AUCs of patients who were trained on say nothing of new ones: evaluate other films, or give "
            "overlap=allow"
        )


def _tell(dataset: Dataset, judged: JudgedFilms, description: Description, image_size: int) -> None:
    """Say how the dataset differs from what the model was trained on."""
    for findings, what in ((judged.untested, "not tested, since the films have no such labels"),
                           (judged.unknown, "labelled, but not given by the model")):  # fmt: skip
        if findings:
            say(f"{what}: {', '.join(findings)}")
    if dataset.image_size != image_size:
        say(f"films of {dataset.image_size} px are resized to {image_size} px, which the model takes")
    if dataset.manifest.fit != description.fit:
        warn(f"films were made square by fit={dataset.manifest.fit}, those that the model knows by {description.fit}")
    known = description.about.get("task", dataset.manifest.task)
    if known != dataset.manifest.task:
        warn(f"the model was trained for task {known}, and the dataset is of {dataset.manifest.task}")
