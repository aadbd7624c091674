"""The classifier: grey films in, probabilities out, with preprocessing, backbone and head in one saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from radflow.models.backbone_builder import build_backbone
from radflow.models.backbones import ARCHITECTURES
from radflow.models.batch_norm import AllreduceSum
from radflow.models.config import ModelConfig
from radflow.models.precision import dtype_policy
from radflow.models.twin import twin_of


def build_classifier(
    config: ModelConfig,
    precision: str,
    image_size: int,
    prevalences: np.ndarray,
    seed: int,
    weights_file: Path | None = None,
) -> keras.Model:
    """A Keras model: uint8 [n, size, size] grey films -> float32 [n, findings] probabilities.

    Parameters
    ----------
    config
        Architecture, normalisation, initial weights.
    precision
        Keras dtype policy of the backbone; preprocessing and head compute in float32 whatever it is.
    image_size
        Height and width of a film in pixels.
    prevalences
        Share of training films with each finding, float [findings] in [0, 1]. The head starts by predicting them
        (zero weights, their log-odds as bias), so that the first epoch is not spent on learning that findings are
        rare (Lin et al. 2017, arXiv:1708.02002, section 3.3).
    seed
        Of the initial weights.
    weights_file
        Where `config.weights` names a model that is kept elsewhere: its .keras file on this machine.
    """
    keras.utils.set_random_seed(seed)
    with dtype_policy(precision):
        films = keras.Input((image_size, image_size), dtype="uint8", name="films")
        backbone = build_backbone(config.arch, config.norm, config.weights, image_size, weights_file)
        features = backbone(_preprocess(films, config.arch))
        pooled = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
        logits = keras.layers.Dense(
            len(prevalences),
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(_log_odds(prevalences)),
            dtype="float32",
            name="logits",
        )(pooled)
        probabilities = keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(logits)
    return keras.Model(films, probabilities, name=f"radflow_{config.arch}")


def build_logits_model(classifier: keras.Model, allreduce_sum: AllreduceSum = list) -> keras.Model:
    """What training computes: the same model, weights shared, up to its logits, which a stable loss wants.

    `allreduce_sum` sums over all ranks, for batch normalisation that sees them all.
    """
    return twin_of(keras.Model(classifier.input, classifier.get_layer("logits").output), allreduce_sum)


def average_of_snapshots(classifier: keras.Model, snapshots: list[list[np.ndarray]]) -> keras.Model:
    """One model whose probabilities are the means of those of `classifier` with each of these weights.

    A snapshot ensemble (Huang et al. 2017, arXiv:1704.00109), which is saved, registered and used like any classifier.
    """
    members = []
    for weights in snapshots:
        copy = keras.models.clone_model(classifier)
        copy.set_weights(weights)
        members.append(copy)
    return average_of_members(members, classifier.name)


def average_of_members(members: Sequence[keras.Model], name: str, mirrored: bool = False) -> keras.Model:
    """One model whose probabilities are the means of those of its members, which keep their weights.

    Mirrored, each member also judges the film's mirror image, left for right, so that two members or one mirrored are
    the least that make a mean.
    """
    films = keras.Input(members[0].input.shape[1:], dtype="uint8", name="films")
    views = [films, keras.ops.flip(films, axis=2)] if mirrored else [films]
    named = [keras.Model(each.input, each.output, name=f"member_{number}") for number, each in enumerate(members, 1)]
    outputs = [member(view) for member in named for view in views]
    probabilities = keras.layers.Average(dtype="float32", name="probabilities")(outputs)
    return keras.Model(films, probabilities, name=name)


def _preprocess(films: keras.KerasTensor, arch: str) -> keras.KerasTensor:
    scaling = ARCHITECTURES[arch].scaling
    grey = keras.layers.Reshape((*films.shape[1:], 1), dtype="float32", name="grey")(films)
    colour = keras.layers.Concatenate(name="three_channels", dtype="float32")([grey, grey, grey])
    return keras.layers.Rescaling(list(scaling.scale), list(scaling.offset), name="rescale", dtype="float32")(colour)


def _log_odds(prevalences: np.ndarray) -> list[float]:
    share = np.clip(np.asarray(prevalences, dtype=np.float64), 1e-3, 1 - 1e-3)
    return np.log(share / (1 - share)).tolist()
