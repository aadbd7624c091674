"""Entry point `ensemble`: several trained models averaged into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radflow.cluster.threads import set_threads
from radflow.config import flatten
from radflow.data.dataset.reading import Dataset
from radflow.data.phantom.chest.films import golden_film
from radflow.data.sample import open_data
from radflow.data.seen_patients import PATIENTS_FILE, SeenPatients
from radflow.errors import UserError
from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.inference.config import EnsembleConfig
from radflow.inference.loaded_model import LoadedClassifier, load_classifier
from radflow.plots.report import evaluation_markdown
from radflow.terminal import import_tensorflow, say
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.run import tracking_run

if TYPE_CHECKING:
    import keras

    from radflow.evaluation.evaluation import Evaluation

BATCH = 32
MIXED = "mixed"
"""Architecture of an ensemble whose members are of several."""
MEMBERS_TAG = "radflow.members"


def ensemble(config: EnsembleConfig) -> Evaluation:
    """Average models into one, calibrate it on validation films, test it, and log it as a run that can be promoted.

    Raises
    ------
    UserError
        A model that is not there, or models or a dataset that differ in findings, film size or how films became square.
    """
    set_threads(config.threads)  # which TensorFlow reads once, when it is imported
    import_tensorflow()
    from radflow.models.classifier import average_of_members
    from radflow.training.initial_weights import patients_seen_by, resolve_alias

    dataset = open_data(config.data)
    prepare_tracking()
    uris = [resolve_alias(uri) for uri in config.members]
    members = [load_classifier(uri) for uri in uris]
    _check_alike(config.members, members, dataset)
    known = {member.description.about.get("arch", MIXED) for member in members}
    arch = known.pop() if len(known) == 1 else MIXED
    model = average_of_members([member.model for member in members], f"radflow_{arch}", config.mirrored)
    seen = SeenPatients()
    for uri in uris:
        seen |= patients_seen_by(uri)
    return _test_and_log(config, _Averaged(model, arch, uris, seen), dataset)


@dataclass(frozen=True)
class _Averaged:
    """A model that is the mean of others."""

    model: keras.Model
    arch: str
    members: list[str]
    """Their URIs."""
    seen: SeenPatients


def _test_and_log(config: EnsembleConfig, averaged: _Averaged, dataset: Dataset) -> Evaluation:
    from radflow.inference.saved_model import save_classifier
    from radflow.inference.split_predictor import SplitPredictor
    from radflow.training.assessment import Subject, assess, log_inputs, predictions_of
    from radflow.training.job import outputs_of, run_tags
    from radflow.training.job_folder import make_job_folder
    from radflow.training.leakage import keep_seen_patients

    arch, members = averaged.arch, ",".join(averaged.members)
    tags = {**run_tags(arch, dataset), MEMBERS_TAG: members}
    with tracking_run(f"ensemble-{arch}-{dataset.name}", {**flatten(config), "arch": arch}, tags) as run:
        log_inputs(dataset, ("val", "test"), run)
        folder = make_job_folder(Path(config.out), "ensemble")
        leakage = keep_seen_patients(averaged.seen, dataset, folder, run)
        predictor = SplitPredictor(averaged.model, BATCH)
        splits = [dataset.split("val"), dataset.split("test")]
        validation, tested = (predictions_of(each, dataset.findings, predictor.predict(each)) for each in splits)
        run.log_metrics({"best/val_auc": mean_auc(auc_per_finding(validation))}, step=0)
        outputs = outputs_of(dataset, validation)
        views = f"{len(averaged.members)} models{', mirrored too' if config.mirrored else ''}"
        title = f"{arch}, mean of {views}, on {dataset.name}, test films"
        assessment = assess(tested, outputs, Subject("test", title, members, dataset, leakage), folder, run)
        evaluation = assessment.evaluation
        run.set_note(evaluation_markdown(title, evaluation.aucs, evaluation.mean_auc.interval, leakage.warning))
        params = {"arch": arch, "data_digest": dataset.digest, "task": dataset.manifest.task, "members": members}
        film, files = golden_film(dataset.image_size)[np.newaxis], [folder / PATIENTS_FILE]
        run.log_model(
            lambda place: save_classifier(averaged.model, outputs, film, place, params, files),
            metrics=assessment.metrics,
            params=params,
        )
        say(run.url())
    return evaluation


def _check_alike(uris: Sequence[str], members: Sequence[LoadedClassifier], dataset: Dataset) -> None:
    expected = (dataset.findings, dataset.image_size, dataset.manifest.fit)
    for uri, member in zip(uris, members, strict=True):
        given = (member.findings, member.image_size, member.description.fit)
        for what, value, wanted in zip(("findings", "pixels", "fit"), given, expected, strict=True):
            if value != wanted:
                raise UserError(
                    f"model {uri} has {what} {_told(value)}, and data={dataset.path} has {_told(wanted)}; an ensemble "
                    "is of models alike, tested on films of their kind"
                )


def _told(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
