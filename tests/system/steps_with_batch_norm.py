"""A program for mpirun: some optimiser steps of a small network with batch normalisation over random films.

python steps_with_batch_norm.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from radflow.cluster.communicator import Communicator, HorovodCommunicator
from radflow.data.batches import Batch
from radflow.models.classifier import build_logits_model
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.step import TrainingStep

FILMS, SIZE, FINDINGS, STEPS = 8, 12, 3, 5


def network(synchronized: bool) -> keras.Model:
    keras.utils.set_random_seed(0)
    films = keras.Input((SIZE, SIZE), dtype="uint8")
    hidden = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((SIZE, SIZE, 1), dtype="float32")(films))
    for _ in range(2):
        hidden = keras.layers.Conv2D(6, 3, strides=2)(hidden)
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization(synchronized=synchronized)(hidden))
    logits = keras.layers.Dense(FINDINGS, name="logits")(keras.layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(films, keras.layers.Activation("sigmoid")(logits))


def train(communicator: Communicator, synchronized: bool) -> dict[str, np.ndarray]:
    """Losses of all steps, and all weights at the end; each rank has its share of the films, which differ in kind."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, np.arange(32, 257, 32)[:FILMS, None, None], (FILMS, SIZE, SIZE)).astype(np.uint8)
    labels = (generator.random((FILMS, FINDINGS)) < 0.5).astype(np.float32)
    share = np.array_split(np.arange(FILMS), communicator.size)[communicator.rank]
    model, loss = network(synchronized), build_loss(LossConfig(), labels)
    step = TrainingStep(
        build_logits_model(model, communicator.allreduce_sum),
        loss,
        keras.optimizers.SGD(0.0, momentum=0.9),
        communicator,
    )
    losses = []
    for _ in range(STEPS):
        step.accumulate(Batch(pixels[share], labels[share], np.ones(len(share), np.float32)))
        losses.append(step.reduce(FILMS))
        step.update(0.1)
    weights = {f"weight {number}": weight for number, weight in enumerate(model.get_weights())}
    return {"losses": np.array(losses), **weights}


def main(out: Path) -> None:
    communicator = HorovodCommunicator()
    for kind in ("synchronized", "plain"):
        result = train(communicator, synchronized=kind == "synchronized")
        np.savez(out / f"{kind}{communicator.rank}.npz", **result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
