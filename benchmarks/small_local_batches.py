"""GBZ=512 with LBZ=4: what batch normalisation loses there, by how its moving statistics are kept, and what fixes it.

    python -m benchmarks.small_local_batches

The paper's DenseNet-121 with 128 ranks of four films each predicted no better than a coin (section III-B). One process
stands for those ranks here: each micro-batch of four films is what one of them sees in a step. Phantom films train
DenseNet-121 once for each normalisation; what batch normalisation has trained is tested with three kinds of statistics:

- of one rank: moving averages updated once a step from its own micro-batch, what Keras' layer leaves on a Horovod rank;
- mean of ranks: the averages of all ranks, averaged;
- estimated again: what `train` does, from 512 films and the weights as they are after the epoch.

By the contract of `norm=sync_batch`, 16 ranks of four films are one rank of 64 with `norm=batch`.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf

from radflow.cluster.batch_plan import BatchPlan, epoch_order, films_of_step, micro_batches, plan_batches
from radflow.cluster.communicator import SerialCommunicator
from radflow.cluster.threads import set_threads
from radflow.data.batches import gather_ahead
from radflow.data.dataset.reading import Dataset, Split, open_dataset
from radflow.data.sample import dataset_folder
from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.inference.split_predictor import SplitPredictor
from radflow.models.backbones import ARCHITECTURES
from radflow.models.classifier import build_classifier, build_logits_model
from radflow.models.config import ModelConfig
from radflow.models.precision import choose_precision
from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate
from radflow.plots.tables import markdown_table
from radflow.training.assessment import predictions_of
from radflow.training.batch_statistics import BatchStatistics
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.step import TrainingStep

NORMS = (("batch", 4), ("batch", 64), ("group", 4), ("instance", 4))
EVALUATION_BATCH = 64


class MovingStatistics:
    """Means and variances of all batch normalisations, followed as one rank and as the mean of all ranks would."""

    def __init__(self, model: keras.Model) -> None:
        layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        self.variables = [variable for layer in layers for variable in layer.non_trainable_variables]
        self._momenta = [layer.momentum for layer in layers for _ in layer.non_trainable_variables]
        self.of_one_rank = [variable.numpy() for variable in self.variables]
        self.of_all_ranks = [variable.numpy() for variable in self.variables]

    @tf.function
    def take(self) -> list[tf.Tensor]:
        """The statistics, which are set to zero: from there, an update leaves 1 - momentum times what its batch had."""
        taken = [tf.identity(variable.value) for variable in self.variables]
        with tf.control_dependencies(taken):
            for variable in self.variables:
                variable.assign(tf.zeros_like(variable.value))
        return taken

    def update(self, per_rank: list[list[tf.Tensor]]) -> None:
        """Take in the updates that the ranks made to statistics of zero in one step."""
        for place, momentum in enumerate(self._momenta):
            updates = [rank[place].numpy() for rank in per_rank]
            self.of_one_rank[place] = momentum * self.of_one_rank[place] + updates[0]
            self.of_all_ranks[place] = momentum * self.of_all_ranks[place] + np.mean(updates, axis=0)

    def set(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)


def train(norm: str, local_batch: int, options: argparse.Namespace, dataset: Dataset) -> list[tuple[str, float]]:
    """Retrain; mean test AUC by the kind of statistics."""
    films = dataset.split("train")
    plan = plan_batches(options.gbz, local_batch, 1, len(films))
    config = ModelConfig(arch=options.arch, norm=norm)
    prevalences = films.labels.mean(axis=0)
    classifier = build_classifier(config, choose_precision("auto"), dataset.image_size, prevalences, seed=options.seed)
    logits = build_logits_model(classifier)
    optimizer = build_optimizer(OptimizerConfig(optimizer="adam"), classifier.trainable_variables)
    step = TrainingStep(logits, build_loss(LossConfig(), films.labels), optimizer, SerialCommunicator())
    rate = LearningRate(options.learning_rate, 1.0, options.epochs, "cosine")
    moving = MovingStatistics(logits)
    anew = BatchStatistics(logits, plan, SerialCommunicator())
    predictor = SplitPredictor(classifier, EVALUATION_BATCH)
    for epoch in range(options.epochs):
        order = epoch_order(plan.films, options.seed, epoch)
        losses = []
        for number in range(plan.steps_per_epoch):
            losses.append(train_step(step, moving, films, plan, order, number))
            step.update(rate.at(epoch + (number + 0.5) / plan.steps_per_epoch))
        anew.estimate(films, order)
        area = auc_on(dataset, "val", predictor)
        print(f"{norm}, LBZ {local_batch}, epoch {epoch + 1}: loss {np.mean(losses):.4f}, AUC {area:.3f}", flush=True)
    areas = [("estimated again" if moving.variables else "none", auc_on(dataset, "test", predictor))]
    if moving.variables:
        for kind, values in (("mean of ranks", moving.of_all_ranks), ("of one rank", moving.of_one_rank)):
            moving.set(values)
            areas.append((kind, auc_on(dataset, "test", predictor)))
    return areas


def train_step(
    step: TrainingStep, moving: MovingStatistics, films: Split, plan: BatchPlan, order: np.ndarray, number: int
) -> float:
    """Sum the gradients of a step, a rank after the other, and follow their statistics; returns the mean loss."""
    updates = []
    moving.take()
    for batch in gather_ahead(films, micro_batches(plan, order, number, 0)):
        step.accumulate(batch)
        updates.append(moving.take())
    moving.update(updates)
    return step.reduce(len(films_of_step(plan, order, number)))


def auc_on(dataset: Dataset, name: str, predictor: SplitPredictor) -> float:
    split = dataset.split(name)
    return mean_auc(auc_per_finding(predictions_of(split, dataset.findings, predictor.predict(split))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="dataset made by `preprocess`")
    normalised = [name for name, each in ARCHITECTURES.items() if each.norm == "batch"]
    parser.add_argument("--arch", default="densenet121", choices=normalised)
    parser.add_argument("--gbz", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=0.002, help="of Adam, at its peak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--norm", nargs="+", default=[f"{norm}:{batch}" for norm, batch in NORMS], help="norm:LBZ")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    set_threads(options.threads)
    dataset = open_dataset(dataset_folder(options.data))
    rows = []
    for norm, local_batch in (trained.split(":") for trained in options.norm):
        areas = train(norm, int(local_batch), options, dataset)
        rows += [(norm, local_batch, kind, f"{area:.3f}") for kind, area in areas]
    print("\n" + markdown_table(("norm", "LBZ", "statistics", "mean test AUC"), rows, align="lrlr"))


if __name__ == "__main__":
    main()
