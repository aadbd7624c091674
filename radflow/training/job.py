"""A training job from the data set to the logged model: build, fit, assess. Every rank runs it alike."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from radflow.cluster.batch_plan import BatchPlan
from radflow.cluster.communicator import Communicator
from radflow.cluster.threads import choose_precision
from radflow.config import flatten
from radflow.data.augmentation import Augmentation
from radflow.data.dataset import Dataset, Split
from radflow.environment import installed_versions
from radflow.evaluation.figures import learning_curves_figure, learning_rate_figure
from radflow.evaluation.report import RunFacts, summary_markdown
from radflow.models.classifier import build_classifier
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate, peak_learning_rate
from radflow.terminal import say
from radflow.tracking.models import FINDINGS_PARAM
from radflow.tracking.run import SilentRun, TrackedRun, tracking_run
from radflow.training.assessment import Assessment, assess, make_job_folder, predictions_of
from radflow.training.config import TrainingConfig
from radflow.training.inference import SplitPredictor
from radflow.training.loop import History, Reporting, TrainingState, fit, score
from radflow.training.progress import EpochProgress, SilentProgress, TerminalProgress

EXAMPLE_FILMS = 2
RECORDED_PACKAGES = ("radflow", "keras", "tensorflow", "tensorflow-cpu", "horovod", "mlflow")


def run_job(config: TrainingConfig, dataset: Dataset, plan: BatchPlan, communicator: Communicator) -> None:
    """Train, assess on the test films and log the model, in one MLflow run whatever the number of ranks."""
    train, validation, test = (dataset.split(name) for name in ("train", "val", "test"))
    settings = _settings(config, dataset, plan)
    progress: EpochProgress = communicator.choose(TerminalProgress, SilentProgress)
    own_run: AbstractContextManager[TrackedRun] = communicator.choose(
        lambda: _open_run(config, dataset, settings), lambda: nullcontext(SilentRun())
    )
    with own_run as run, closing(progress):
        communicator.choose(lambda: _announce(plan), lambda: None)
        _log_inputs(dataset, run)
        # One rank reads or downloads the initial weights; the broadcast gives them to all.
        model = communicator.choose(lambda: config.model, lambda: replace(config.model, weights="none"))
        state = communicator.together(lambda: _build(replace(config, model=model), dataset, plan))
        communicator.broadcast(state.classifier.variables)
        folder = communicator.choose(lambda: make_job_folder(Path(config.out), config.model.arch), lambda: None)
        reporting = Reporting(run, progress, folder)
        augmentation = Augmentation(config.augmentation, config.seed)
        history = fit(
            state, train, validation, dataset.findings, plan, config.seed, communicator, reporting, augmentation
        )
        probabilities = SplitPredictor(state.classifier, plan.local_batch, communicator).predict(test)

        def conclude() -> None:
            predictions = predictions_of(test, dataset.findings, probabilities)
            title = f"{config.model.arch} on {dataset.name}, test films"
            assessment = assess(predictions, "test", title, folder or Path(config.out), run, len(history))
            run.log_metrics(_best_epoch(history), step=len(history))
            run.log_figure(learning_curves_figure(history, title), "figures/learning_curves.png")
            run.log_figure(_draw_learning_rate(config, dataset, state.learning_rate), "figures/learning_rate.png")
            run.set_note(_note(config, dataset, plan, state, history, assessment))
            _log_model(config, dataset, state, train, assessment, run)
            say(run.url())

        communicator.choose(conclude, lambda: None)


def _announce(plan: BatchPlan) -> None:
    say(f"{plan}; {plan.steps_per_epoch} steps an epoch over {plan.films} films")
    if plan.effective_global_batch < plan.global_batch:
        say(
            f"warning: {plan.films} training films are fewer than the global batch of {plan.global_batch}; "
            "each epoch is one step over all of them"
        )


def _build(config: TrainingConfig, dataset: Dataset, plan: BatchPlan) -> TrainingState:
    prevalences = dataset.split("train").labels.mean(axis=0)
    precision = choose_precision(config.model.precision)
    classifier = build_classifier(config.model, precision, dataset.image_size, prevalences, config.seed)
    peak = peak_learning_rate(config.optim, plan.effective_global_batch)
    schedule = LearningRate(peak, config.optim.warmup_epochs, config.epochs, config.optim.schedule, config.optim.cycles)
    return TrainingState(classifier, build_optimizer(config.optim, classifier.trainable_variables), schedule)


def _settings(config: TrainingConfig, dataset: Dataset, plan: BatchPlan) -> dict[str, Any]:
    """What was asked for and all that was derived from it."""
    return {
        **flatten(config),
        "norm": config.model.chosen_norm,
        "precision": choose_precision(config.model.precision),
        "ranks": plan.ranks,
        "local_batch": plan.local_batch,
        "micro_steps": plan.micro_steps,
        "global_batch": plan.global_batch,
        "effective_gbz": plan.effective_global_batch,
        "steps_per_epoch": plan.steps_per_epoch,
        "peak_lr": peak_learning_rate(config.optim, plan.effective_global_batch),
        "image_size": dataset.image_size,
        "data_name": dataset.name,
        "data_digest": dataset.digest,
        "host": platform.node(),
        **{f"version_{name}": version for name, version in installed_versions(RECORDED_PACKAGES).items()},
    }


def _open_run(
    config: TrainingConfig, dataset: Dataset, settings: Mapping[str, Any]
) -> AbstractContextManager[TrackedRun]:
    return tracking_run(config.run_name(dataset.name), settings, run_tags(config.model.arch, dataset))


def run_tags(arch: str, dataset: Dataset) -> dict[str, str]:
    """Tags by which promotion finds comparable runs."""
    return {"radflow.arch": arch, "radflow.data_name": dataset.name, "radflow.data_digest": dataset.digest}


def _log_inputs(dataset: Dataset, run: TrackedRun) -> None:
    for split, context in (("train", "training"), ("val", "validation"), ("test", "testing")):
        counts = dataset.manifest.splits[split]
        profile = {"films": counts.rows, "patients": counts.patients, "positives": counts.positives}
        run.log_dataset(dataset.name, dataset.digest, str(dataset.path), profile, context)


def _best_epoch(history: History) -> dict[str, float]:
    best = max(range(len(history)), key=lambda epoch: score(history[epoch]))
    return {"best/epoch": best + 1, "best/val_auc": history[best]["val/auc/mean"]}


def _draw_learning_rate(config: TrainingConfig, dataset: Dataset, learning_rate: LearningRate) -> Figure:
    """The schedule over all epochs, at one point a pixel; after training it shows where a plateau lowered the rate."""
    epochs = np.linspace(0, learning_rate.epochs, 1000, endpoint=False).tolist()
    title = f"{config.model.arch} on {dataset.name}, schedule {learning_rate.schedule}"
    return learning_rate_figure(epochs, [learning_rate.at(epoch) for epoch in epochs], title)


def _note(
    config: TrainingConfig,
    dataset: Dataset,
    plan: BatchPlan,
    state: TrainingState,
    history: History,
    assessment: Assessment,
) -> str:
    # The first epoch includes tracing of the graph; the median says what training costs.
    facts = RunFacts(
        model=f"{config.model.arch}, norm {config.model.chosen_norm}",
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        films={split: counts.rows for split, counts in dataset.manifest.splits.items()},
        evaluated_split="test",
        ranks=plan.ranks,
        local_batch=plan.local_batch,
        micro_steps=plan.micro_steps,
        optimizer=config.optim.optimizer,
        learning_rate=state.learning_rate.peak,
        epochs=len(history),
        images_per_second=float(np.median([epoch["throughput/images_per_second"] for epoch in history])),
        seconds_per_epoch=float(np.median([epoch["throughput/seconds_per_epoch"] for epoch in history])),
    )
    return summary_markdown(facts, assessment.results, assessment.mean_interval)


def _log_model(
    config: TrainingConfig,
    dataset: Dataset,
    state: TrainingState,
    train: Split,
    assessment: Assessment,
    run: TrackedRun,
) -> None:
    example = train.gather(np.arange(min(EXAMPLE_FILMS, len(train))))
    params = {FINDINGS_PARAM: ",".join(dataset.findings), "arch": config.model.arch, "data_digest": dataset.digest}
    run.log_model(state.classifier, example, metrics=assessment.metrics, params=params)
