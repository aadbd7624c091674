"""LARS and LAMB beside SGD, AdaDelta and Adam at a large batch, the learning rate of each tuned.

    python -m benchmarks.large_batch_optimizers --data=DATASET

trains DenseNet-121 from the same initial weights, with the same films in the same order, once for each rate of each
optimiser, by radflow's own epoch: a warm-up of one epoch, then cosine. The rate with the best validation AUC after the
last epoch is each optimiser's, and is tested; a best rate at an end of its list means that the list was too short.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from radflow.cluster.batch_plan import epoch_order, plan_batches
from radflow.cluster.communicator import SerialCommunicator
from radflow.cluster.threads import choose_precision, set_threads
from radflow.data.augmentation import Augmentation, AugmentationConfig
from radflow.data.dataset import Dataset, open_dataset
from radflow.data.sample import dataset_folder
from radflow.errors import JobError
from radflow.evaluation.auc import auc_per_finding, mean_auc, mean_auc_interval
from radflow.evaluation.predictions import Predictions
from radflow.models.classifier import build_classifier, logits_of
from radflow.models.config import ModelConfig
from radflow.optim.config import OptimizerConfig
from radflow.optim.factory import build_optimizer
from radflow.optim.learning_rate import LearningRate
from radflow.tracking.run import SilentRun
from radflow.training.assessment import predictions_of
from radflow.training.batch_statistics import BatchStatistics
from radflow.training.inference import SplitPredictor
from radflow.training.loop import NoCheckpoints, Reporting, train_epoch
from radflow.training.loss import build_loss
from radflow.training.loss_config import LossConfig
from radflow.training.progress import SilentProgress
from radflow.training.state import TrainingState
from radflow.training.step import TrainingStep

RATES = {
    "sgd": (0.1, 0.3, 1.0),
    "adadelta": (1.0, 3.0, 10.0),
    "adam": (0.001, 0.002, 0.004, 0.008),
    "lars": (3.0, 10.0, 30.0),
    "lamb": (0.005, 0.015, 0.05),
}


@dataclass(frozen=True)
class Trained:
    """What a rate has come to; NaN where training diverged."""

    rate: float
    loss: float
    validation_auc: float
    test: Predictions | None


class Trainer:
    """One optimiser and one traced step, used again from the same start for each rate."""

    def __init__(self, optimizer: str, options: argparse.Namespace, dataset: Dataset) -> None:
        self.dataset, self.epochs, self.seed = dataset, options.epochs, options.seed
        self.train = dataset.split("train")
        self.plan = plan_batches(options.gbz, options.lbz, 1, len(self.train))
        prevalences = self.train.labels.mean(axis=0)
        config = ModelConfig(arch=options.arch, norm=options.norm)
        precision = choose_precision(options.precision)
        self.classifier = build_classifier(config, precision, dataset.image_size, prevalences, seed=options.seed)
        self.optimizer = build_optimizer(OptimizerConfig(optimizer=optimizer), self.classifier.trainable_variables)
        logits = logits_of(self.classifier)
        self.step = TrainingStep(
            logits, build_loss(LossConfig(), self.train.labels), self.optimizer, SerialCommunicator()
        )
        self.statistics = BatchStatistics(logits, self.plan, SerialCommunicator())
        self.predictor = SplitPredictor(self.classifier, options.lbz)
        self.start = [(variable, variable.numpy()) for variable in self.classifier.variables + self.optimizer.variables]

    def train_at(self, rate: float) -> Trained:
        for variable, value in self.start:
            variable.assign(value)
        schedule = LearningRate(rate, 1.0, self.epochs, "cosine")
        state = TrainingState(self.classifier, self.optimizer, schedule, self.plan.steps_per_epoch)
        reporting = Reporting(SilentRun(), SilentProgress(), NoCheckpoints(), None)
        augmentation = Augmentation(AugmentationConfig(), self.seed)
        communicator = SerialCommunicator()
        try:
            for epoch in range(self.epochs):
                order = epoch_order(self.plan.films, self.seed, epoch)
                metrics = train_epoch(
                    self.step, state, self.train, self.plan, order, augmentation, communicator, reporting
                )
                state.history.append(metrics)
                state.step_losses = []
        except JobError:
            return Trained(rate, float("nan"), float("nan"), None)
        self.statistics.estimate(self.train, order)
        validation = mean_auc(auc_per_finding(self.predict("val")))
        return Trained(rate, metrics["train/loss"], validation, self.predict("test"))

    def predict(self, name: str) -> Predictions:
        split = self.dataset.split(name)
        return predictions_of(split, self.dataset.findings, self.predictor.predict(split))


def row(optimizer: str, trained: list[Trained]) -> str:
    """The best rate of an optimiser, as a line of the table."""
    best = max(trained, key=lambda each: np.nan_to_num(each.validation_auc))
    if best.test is None:
        return f"| {optimizer} | diverged | | | |"
    low, high = mean_auc_interval(best.test)
    area = mean_auc(auc_per_finding(best.test))
    interval = f"{area:.3f} ({low:.3f} to {high:.3f})"
    return f"| {optimizer} | {best.rate:g} | {best.loss:.4f} | {best.validation_auc:.3f} | {interval} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="data set made by `preprocess`")
    parser.add_argument("--arch", default="densenet121", choices=("densenet121", "vgg16", "resnet50"))
    parser.add_argument("--norm", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--gbz", type=int, default=512)
    parser.add_argument("--lbz", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--optimizer", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--rates", nargs="+", type=float, help="instead of each optimiser's list")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    set_threads(options.threads)
    dataset = open_dataset(dataset_folder(options.data))
    rows = []
    for optimizer in options.optimizer:
        trainer = Trainer(optimizer, options, dataset)
        trained = []
        for rate in options.rates or RATES[optimizer]:
            trained.append(trainer.train_at(rate))
            print(
                f"{optimizer} {rate:g}: loss {trained[-1].loss:.4f}, AUC {trained[-1].validation_auc:.3f}", flush=True
            )
        rows.append(row(optimizer, trained))
        print(rows[-1], flush=True)
    print("\n| optimiser | peak rate | training loss | validation AUC | mean test AUC |\n|---|--:|--:|--:|--:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
