"""A program for mpirun: some optimiser steps of VGG-16 on a dataset; every rank writes what became of it.

python steps_of_a_rank.py DATASET GLOBAL_BATCH STEPS OUT LOCAL_BATCH[/float16]...
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from radflow.cluster.threads import set_threads

set_threads(1)

from radflow.cluster.batch_plan import epoch_order, films_of_step, micro_batches, plan_batches  # noqa: E402
from radflow.cluster.communicator import HorovodCommunicator  # noqa: E402
from radflow.data.batches import gather_ahead  # noqa: E402
from radflow.data.dataset.reading import open_dataset  # noqa: E402
from radflow.models.classifier import build_classifier, build_logits_model  # noqa: E402
from radflow.models.config import ModelConfig  # noqa: E402
from radflow.optim.config import OptimizerConfig  # noqa: E402
from radflow.optim.factory import build_optimizer  # noqa: E402
from radflow.training.gradient_sum import sum_as_float16, sum_as_float32  # noqa: E402
from radflow.training.loss import build_loss  # noqa: E402
from radflow.training.loss_config import LossConfig  # noqa: E402
from radflow.training.step import TrainingStep  # noqa: E402


def train(
    communicator: HorovodCommunicator, dataset_folder: str, global_batch: int, spread: str, steps: int, out: Path
) -> None:
    local_batch, _, precision = spread.partition("/")
    dataset = open_dataset(dataset_folder)
    train = dataset.split("train")
    plan = plan_batches(global_batch, int(local_batch), communicator.size, len(train))
    # Ranks start from different weights, so that equal ones at the end come from the broadcast and the sums alone.
    model = build_classifier(
        ModelConfig(arch="vgg16"), "float32", dataset.image_size, train.labels.mean(axis=0), seed=communicator.rank
    )
    communicator.broadcast(model.variables)
    initial = model.get_weights()
    optimizer = build_optimizer(OptimizerConfig(optimizer="sgd"), model.trainable_variables)
    loss = build_loss(LossConfig(), train.labels)
    sum_gradients = sum_as_float16 if precision == "float16" else sum_as_float32
    step = TrainingStep(build_logits_model(model), loss, optimizer, communicator, sum_gradients=sum_gradients)
    order = epoch_order(plan.films, seed=0, epoch=0)
    losses = []
    for number in range(steps):
        for batch in gather_ahead(train, micro_batches(plan, order, number, communicator.rank)):
            step.accumulate(batch)
        losses.append(step.reduce(len(films_of_step(plan, order, number))))
        step.update(0.01)
    changes = [after - before for after, before in zip(model.get_weights(), initial, strict=True)]
    folder = out / f"{plan.ranks}x{plan.local_batch}x{plan.micro_steps}{precision}"
    folder.mkdir(exist_ok=True)
    np.save(folder / f"changes{communicator.rank}.npy", np.concatenate([change.ravel() for change in changes]))
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
    (folder / f"rank{communicator.rank}.json").write_text(json.dumps({"losses": losses, "weights": digest}))


if __name__ == "__main__":
    own_rank = HorovodCommunicator()
    for each in sys.argv[5:]:
        train(own_rank, sys.argv[1], int(sys.argv[2]), each, int(sys.argv[3]), Path(sys.argv[4]))
