"""Where the time of a short training goes: to its first step, and from there to its end.

    python -m benchmarks.start_up --data=FOLDER

trains DenseNet-121 for two epochs in this process, with a clock at some of its functions. The first call of most builds
a graph, or imports what it needs. Seconds are of the processor, all threads together, and by the clock.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps

from radflow.plots.tables import terminal_table
from radflow.terminal import print_table

Clocks = tuple[float, float]
EARLY = {
    "prepare_tracking": ("radflow.commands.train", "tracking store, MLflow"),
    "import_tensorflow": ("radflow.commands.train", "TensorFlow and Keras"),
}
LATE = {
    "build_classifier": ("radflow.training.job", "network and initial weights"),
    "peak_images_per_second": ("radflow.training.loop", "convolution peak"),
    "TrainingStep.accumulate": ("radflow.training.step", "forward and backward pass"),
    "TrainingStep.update": ("radflow.training.step", "update"),
    "BatchStatistics.estimate": ("radflow.training.loop", "statistics of batch normalisation"),
    "SplitPredictor.predict": ("radflow.inference.split_predictor", "prediction"),
    "assess": ("radflow.training.job", "assessment, figures, report"),
    "_log_model": ("radflow.training.job", "saving the model"),
}
taken: dict[str, list[Clocks]] = defaultdict(list)


def clocks() -> Clocks:
    return time.process_time(), time.perf_counter()


def since(start: Clocks) -> Clocks:
    now = clocks()
    return now[0] - start[0], now[1] - start[1]


def watch(name: str, module: str, after: Callable[[], None] = lambda: None) -> None:
    """Put a function that takes the time in the place of one of a module, or of a class of it."""
    holder = importlib.import_module(module)
    *owners, last = name.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    original = getattr(holder, last)

    @wraps(original)
    def timed(*arguments: object, **named: object) -> object:
        start = clocks()
        try:
            return original(*arguments, **named)
        finally:
            taken[name].append(since(start))
            after()

    setattr(holder, last, timed)


def watch_late() -> None:
    """What cannot be imported before TensorFlow is."""
    for name, (module, _) in LATE.items():
        watch(name, module)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default="auto")
    options.add_argument("--out", default="runs")
    options.add_argument("--threads", type=int, default=0)
    given = options.parse_args()
    start = clocks()
    from radflow.commands.train import train
    from radflow.config import make
    from radflow.training.config import TrainConfig

    taken["commands"].append(since(start))
    watch("prepare_tracking", EARLY["prepare_tracking"][0])
    watch("import_tensorflow", EARLY["import_tensorflow"][0], after=watch_late)
    train(make(TrainConfig, {**vars(given), "bz": 64, "epochs": 2}))
    total = since(start)
    parts = {"commands": ("", "radflow's commands"), **EARLY, **LATE}
    table = terminal_table(
        "Seconds of the processor (by the clock)", ("part", "first time", "later", "times"), (), "lrrr"
    )
    for name, (_, title) in parts.items():
        first, *later = taken[name]
        rest = [sum(each) for each in zip(*later, strict=True)] if later else [0.0, 0.0]
        table.add_row(title, in_words(first), in_words(rest) if later else "", str(len(taken[name])))
    table.add_row("all, with what is not listed", in_words(total), "", "")
    print_table(table)


def in_words(seconds: Clocks | list[float]) -> str:
    return f"{seconds[0]:.1f} ({seconds[1]:.1f})"


if __name__ == "__main__":
    main()
