"""Films a second from memory-mapped shards against decoding PNGs again, and what of a training step batches take.

    python benchmarks/batches.py --image_size=128

draws 512 phantom films of 1024x1024 if `benchmarks/preprocess.py` has not, preprocesses them, and measures in turns:
decoding the PNGs (what each epoch would cost without a dataset), gathering batches from the shards, and gathering
with augmentation. Then it trains DenseNet-121 with augmentation and looks at how long each step waits for its batch
and how much time of the cores the thread takes that changes the films. Expected: far more than 20 times the films of
decoding from the shards, about 10 times with augmentation, and less than 2 % of a step's time spent waiting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from radflow.cluster.threads import set_threads
from radflow.config import run_command
from radflow.data.augmentation import Augmentation, AugmentationConfig
from radflow.data.batches import Augment, gather_ahead
from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset, Split
from radflow.data.images.film import read_film
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.preprocess import preprocess
from radflow.models.precision import choose_precision


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure batches."""

    folder: str = "data/benchmark"
    """Folder for the films, which are kept, and the dataset."""
    films: int = 512
    """Phantom films of 1024x1024 pixels."""
    image_size: int = 224
    """Pixels of the dataset's films."""
    batch: int = 16
    """Films of a batch."""
    rounds: int = 3
    """How often each is measured; the median counts."""
    steps: int = 12
    """Training steps that are timed, after two that are not."""


def main(config: BenchmarkConfig) -> None:
    """Measure sources of films, then a training step."""
    set_threads(0)
    films = Path(config.folder) / f"phantoms-{config.films}"
    if not films.exists():
        write_phantom_films(films, config.films, 1024, seed=0)
    out = str(films.with_name("dataset"))
    dataset = preprocess(PreprocessConfig(source=str(films), out=out, image_size=config.image_size))
    print(
        f"{config.films} films, {config.image_size}x{config.image_size} pixels, batches of {config.batch}", flush=True
    )
    measure_sources(config, films, dataset.split("train"))
    measure_step(config, dataset)


def default_augmentation() -> Augment:
    """Augmentation of the default strengths."""
    return partial(Augmentation(AugmentationConfig(augment=True), seed=0).apply, epoch=0)


def measure_sources(config: BenchmarkConfig, films: Path, train: Split) -> None:
    """Films a second of three sources of batches, each by one thread."""
    files = sorted((films / "images").iterdir())[:100]

    def decode() -> int:
        for file in files:
            read_film(file.read_bytes(), file.name, config.image_size, "squash")
        return len(files)

    def gather(augment: Augment | None, epochs: int) -> int:
        chosen = selections(config.batch, len(train), epochs)
        return sum(len(batch.films) for batch in gather_ahead(train, chosen, augment))

    sources: dict[str, Callable[[], int]] = {
        "decoding PNGs": decode,
        "shards": partial(gather, None, 100),
        "shards, augmented": partial(gather, default_augmentation(), 10),
    }
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(config.rounds):
        for name, source in sources.items():
            started = time.perf_counter()
            rates[name].append(source() / (time.perf_counter() - started))
    for name, measured in rates.items():
        times = median(rate / slow for rate, slow in zip(measured, rates["decoding PNGs"], strict=True))
        print(f"  {name:20}{median(measured):10,.0f} films/s, {times:6,.0f} times decoding", flush=True)


def selections(batch: int, films: int, epochs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Full batches of shuffled films."""
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(films)
        for start in range(0, films - batch + 1, batch):
            yield order[start : start + batch], np.ones(batch, np.float32)


def measure_step(config: BenchmarkConfig, dataset: Dataset) -> None:
    """Share of a training step that passes until its batch is there, and the cores' time that the batch takes."""
    from radflow.cluster.communicator import SerialCommunicator
    from radflow.models.classifier import build_classifier, build_logits_model
    from radflow.models.config import ModelConfig
    from radflow.optim.config import OptimizerConfig
    from radflow.optim.factory import build_optimizer
    from radflow.training.loss import build_loss
    from radflow.training.loss_config import LossConfig
    from radflow.training.step import TrainingStep

    train = dataset.split("train")
    precision = choose_precision("auto")
    prevalences = train.labels.mean(axis=0)
    model = build_classifier(ModelConfig(arch="densenet121"), precision, config.image_size, prevalences, seed=0)
    optimizer = build_optimizer(OptimizerConfig(optimizer="adam"), model.trainable_variables)
    loss = build_loss(LossConfig(), train.labels)
    step = TrainingStep(build_logits_model(model), loss, optimizer, SerialCommunicator())
    making = [0.0]
    augment = default_augmentation()

    def timed(films: np.ndarray, indices: np.ndarray) -> np.ndarray:
        started = time.thread_time()
        augmented = augment(films, indices)
        making[0] += time.thread_time() - started
        return augmented

    batches = gather_ahead(train, selections(config.batch, len(train), 1000), timed)
    waits, steps = [], []
    for number in range(config.steps + 2):
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - started
        step.accumulate(batch)
        step.reduce(config.batch)
        step.update(1e-4)
        if number >= 2:
            waits.append(waited)
            steps.append(time.perf_counter() - started)
    batches.close()
    print(f"  DenseNet-121 ({precision}): {median(steps):.3f} s a step of {config.batch} films")
    print(f"  waiting for batches: {sum(waits) / sum(steps):.3%} of the time of steps (target: under 2 %)")
    made = making[0] / (config.steps + 4)
    print(f"  augmenting a batch: {1000 * made:.1f} ms of a core, {made / median(steps):.2%} of a step's time")


if __name__ == "__main__":
    sys.exit(run_command(BenchmarkConfig, main, sys.argv[1:]))
