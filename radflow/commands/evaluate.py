"""Entry point `evaluate`: a model from anywhere in MLflow, assessed on a split of any dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.data.sample import open_data
from radflow.errors import UserError
from radflow.inference.config import EvaluateConfig
from radflow.inference.loaded_model import load_classifier
from radflow.terminal import import_tensorflow
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run

if TYPE_CHECKING:
    from radflow.training.assessment import Assessment

BATCH = 32


def evaluate(config: EvaluateConfig) -> Assessment:
    """Predict the split, print AUCs with intervals, and log them with figures in a run of their own.

    Patients of the split whom the model has seen in training are counted, told and logged first.

    Raises
    ------
    UserError
        No such model or dataset, or they differ in film size or findings.
    """
    set_threads(config.threads)  # which TensorFlow reads once, when it is imported
    import_tensorflow()
    from radflow.inference.split_predictor import SplitPredictor
    from radflow.plots.report import evaluation_markdown
    from radflow.training.assessment import assess, log_inputs, predictions_of
    from radflow.training.initial_weights import patients_seen_by, resolve_alias
    from radflow.training.job_folder import make_job_folder
    from radflow.training.leakage import report_leakage

    dataset = open_data(config.data)
    prepare_tracking()
    model = resolve_alias(config.model)
    loaded = load_classifier(model)
    if (loaded.image_size, loaded.findings) != (dataset.image_size, dataset.findings):
        raise UserError(
            f"model={config.model} takes {loaded.image_size} px films and gives {len(loaded.findings)} findings, but "
            f"data={config.data} has {dataset.image_size} px and {len(dataset.findings)}; preprocess the films again"
        )
    split = dataset.split(config.split)
    with tracking_run(f"evaluate-{dataset.name}", flatten(config), {"radflow.data_digest": dataset.digest}) as run:
        log_inputs(dataset, (config.split,), run)
        leakage = patients_seen_by(model).leakage(dataset, config.split)
        report_leakage(leakage, "these AUCs are too high", run)
        probabilities = SplitPredictor(loaded.model, BATCH).predict(split)
        predictions = predictions_of(split, dataset.findings, probabilities)
        title = f"{loaded.model.name} on {dataset.name}, {config.split} films"
        assessment = assess(predictions, config.split, title, make_job_folder(Path(config.out), "evaluate"), run)
        run.set_note(evaluation_markdown(title, assessment.results, assessment.mean_interval, leakage.warning))
        return assessment
