"""The weights that a training begins with: where they are, and whether they fit, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from radflow.data.seen_patients import PATIENTS_FILE, SeenPatients
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.models.weights_file import NO_FILE, check_weights_file
from radflow.tracking.connection import prepare_tracking


def check_weights(config: ModelConfig) -> None:
    """Raise UserError unless the weights can be read and, as far as a model in MLflow says what it is, fit."""
    if not are_in_mlflow(config.weights):
        check_weights_file(config.weights)
        return
    prepare_tracking()
    from radflow.inference.loaded_model import model_metadata

    check_fit(config.weights, model_metadata(config.weights), config)


def check_fit(weights: str, described: Mapping[str, str], config: ModelConfig) -> None:
    """Raise UserError unless architecture and normalisation are those of `config`, or nothing is said of them."""
    expected = {"arch": config.arch, "norm": config.norm_of_weights}
    given = {name: described.get(name, value).removeprefix("sync_") for name, value in expected.items()}
    if given != expected:
        of_source, wanted = (f"{each['arch']} with norm={each['norm']}" for each in (given, expected))
        raise UserError(f"weights={weights} are of {of_source}, not of {wanted}; give their arch and norm, or others")


def are_in_mlflow(weights: str) -> bool:
    """Whether they are those of a model that MLflow keeps."""
    if weights in NO_FILE:
        return False
    from radflow.inference.loaded_model import names_model

    return names_model(weights)


def resolve_alias(weights: str) -> str:
    """The same weights by a name that will not mean others tomorrow: the version that a registry's alias stands for."""
    if not are_in_mlflow(weights):
        return weights
    from radflow.inference.loaded_model import without_alias

    return without_alias(weights)


def patients_seen_by(weights: str) -> SeenPatients:
    """The patients that a model or a file of weights has seen, as the model says; unknown where nothing says so.

    `weights` is as in `ModelConfig`, by a name that is settled. ImageNet's and random weights have seen none.

    Raises UserError where the model cannot be asked, or what it says is damaged.
    """
    if weights in NO_FILE:
        return SeenPatients()
    from radflow.inference.loaded_model import model_of_file, read_model_file

    is_model = are_in_mlflow(weights) or Path(weights).is_dir()
    model = weights if is_model else model_of_file(Path(weights))
    text = read_model_file(model, PATIENTS_FILE) if model else None
    if text is None:
        return SeenPatients(unknown=(weights,))
    try:
        return SeenPatients.from_json(text)
    except ValueError as error:
        raise UserError(f"{PATIENTS_FILE} of {weights} cannot be read: {error}; give another model") from error


@contextmanager
def weights_file(weights: str) -> Iterator[Path | None]:
    """The .keras file of a model in MLflow, fetched for the block; None for weights that are elsewhere."""
    if not are_in_mlflow(weights):
        yield None
        return
    from radflow.inference.loaded_model import keras_file

    with keras_file(weights) as file:
        yield file
