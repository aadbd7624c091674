"""radflow's contestant: the training loop itself over films in memory, in one process or as one of several ranks."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.measurement import FINDINGS, WARM_UP_STEPS, parser, result, wait_for_others
from radflow.cluster.batch_plan import BatchPlan, BatchSchedule, epoch_order, plan_batches
from radflow.cluster.launchers.started_ranks import is_rank, ranks_on_this_node
from radflow.cluster.threads import set_threads
from radflow.models.precision import choose_precision
from radflow.terminal import import_tensorflow

set_threads(0, ranks_on_this_node())
import_tensorflow()

from radflow.cluster.communicator import Communicator, HorovodCommunicator, SerialCommunicator  # noqa: E402
from radflow.data.augmentation import Augmentation, AugmentationConfig  # noqa: E402
from radflow.models.classifier import build_classifier, build_logits_model  # noqa: E402
from radflow.models.config import ModelConfig  # noqa: E402
from radflow.optim.config import OptimizerConfig  # noqa: E402
from radflow.optim.factory import build_optimizer  # noqa: E402
from radflow.optim.learning_rate import LearningRate  # noqa: E402
from radflow.tracking.connection import prepare_tracking  # noqa: E402
from radflow.tracking.run import SilentRun, tracking_run  # noqa: E402
from radflow.training.checkpoint import NoCheckpoints  # noqa: E402
from radflow.training.loop import Reporting, steps_of_epoch, train_epoch  # noqa: E402
from radflow.training.loss import build_loss  # noqa: E402
from radflow.training.loss_config import LossConfig  # noqa: E402
from radflow.training.progress import TerminalProgress  # noqa: E402
from radflow.training.state import TrainingState  # noqa: E402
from radflow.training.step import TrainingStep  # noqa: E402


class Films:
    """A split of random films in memory."""

    def __init__(self, films: int, size: int) -> None:
        generator = np.random.default_rng(0)
        self.pixels = generator.integers(0, 256, (films, size, size), np.uint8)
        self.labels = generator.random((films, FINDINGS)) < 0.1

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


class Stopwatch:
    """Seconds of each step that were spent in its parts."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {"forward_backward": [], "reduce": [], "update": [], "logging": []}
        self.ends: list[float] = []

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.parts[part][-1] += time.perf_counter() - started

    def next_step(self) -> None:
        self.ends.append(time.perf_counter())
        for seconds in self.parts.values():
            seconds.append(0.0)

    def of_steps(self, first: int) -> tuple[np.ndarray, dict[str, float]]:
        """Seconds of each step from `first`, and the mean of each part; what no part has taken is input."""
        steps = np.diff(self.ends)[first:]
        parts = {part: float(np.mean(seconds[first:-1])) for part, seconds in self.parts.items()}
        return steps, {"input": float(steps.mean()) - sum(parts.values()), **parts}


class TimedStep(TrainingStep):
    """The step, watched."""

    def __init__(self, stopwatch: Stopwatch, *arguments: object) -> None:
        super().__init__(*arguments)
        self.stopwatch = stopwatch

    def accumulate(self, *arguments: object) -> None:
        with self.stopwatch.timing("forward_backward"):
            super().accumulate(*arguments)

    def reduce(self, films: int) -> float:
        with self.stopwatch.timing("reduce"):
            return super().reduce(films)

    def update(self, *arguments: object) -> None:
        with self.stopwatch.timing("update"):
            super().update(*arguments)


class TimedProgress(TerminalProgress):
    """The progress that a user sees, watched."""

    def __init__(self, stopwatch: Stopwatch, after_warm_up: Callable[[], None]) -> None:
        super().__init__()
        self.stopwatch = stopwatch
        self.after_warm_up = after_warm_up

    def advance(self, films: int, loss: float) -> None:
        with self.stopwatch.timing("logging"):
            super().advance(films, loss)
        if len(self.stopwatch.ends) == WARM_UP_STEPS:
            self.after_warm_up()
        self.stopwatch.next_step()


def new_state(config: ModelConfig, plan: BatchPlan, size: int, communicator: Communicator) -> TrainingState:
    classifier = build_classifier(config, choose_precision("auto"), size, np.full(FINDINGS, 0.1), seed=0)
    communicator.broadcast(classifier.variables)
    optimizer = build_optimizer(OptimizerConfig(optimizer="adam"), classifier.trainable_variables)
    optimizer.build(classifier.trainable_variables)
    return TrainingState(classifier, optimizer, LearningRate(1e-4, 0.0, 1, "constant"), BatchSchedule(plan))


def seconds_to_log(metrics: dict[str, float]) -> float:
    """What the log of an epoch costs in a run of MLflow's default store, with an AUC for each finding."""
    metrics |= {f"val/auc/finding{number}": 0.5 for number in range(FINDINGS)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        prepare_tracking()
        with tracking_run("benchmark", {}) as run:
            started = time.perf_counter()
            run.log_metrics(metrics, step=1)
            return time.perf_counter() - started


def main() -> None:
    options = parser()
    options.add_argument("--global_batch", type=int)
    options.add_argument("--norm", default="auto")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    communicator: Communicator = HorovodCommunicator() if is_rank() else SerialCommunicator()
    global_batch = given.global_batch or given.batch
    films = (WARM_UP_STEPS + given.steps) * global_batch
    plan = plan_batches(global_batch, given.batch, communicator.size, films)
    train = Films(films, given.image_size)
    state = new_state(ModelConfig(arch=given.arch, norm=given.norm), plan, given.image_size, communicator)
    stopwatch = Stopwatch()
    logits = build_logits_model(state.classifier, communicator.allreduce_sum)
    loss = build_loss(LossConfig(), train.labels)
    step = TimedStep(stopwatch, logits, loss, state.optimizer, communicator)
    # Ranks wait for each other in every step; alone, the process waits for the driver.
    progress = TimedProgress(stopwatch, (lambda: None) if is_rank() else wait_for_others)
    progress.start_epoch(0, 1, films)
    stopwatch.next_step()
    reporting = Reporting(SilentRun(), progress, NoCheckpoints(), Path())
    order, augmentation = epoch_order(films, 0, 0), Augmentation(AugmentationConfig(), seed=0)
    targets = train.labels.astype(np.float32)
    micro_steps = steps_of_epoch(state, train, targets, order, augmentation, communicator.rank)
    metrics = train_epoch(step, state, micro_steps, communicator, reporting)
    progress.close()
    steps, parts = stopwatch.of_steps(WARM_UP_STEPS)
    parts["logging"] += (communicator.on_first_rank(lambda: seconds_to_log(metrics)) or 0.0) / len(steps)
    measured = result(global_batch / communicator.size, steps, **parts)
    if given.out:
        (given.out / f"rank{communicator.rank}.json").write_text(measured)
    else:
        print(measured)


if __name__ == "__main__":
    main()
