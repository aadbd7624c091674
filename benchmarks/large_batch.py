"""What a large global batch costs in accuracy: the rule behind `auto` beside other optimisers, each at its best rate.

    python -m benchmarks.large_batch --data=DATASET --out=FOLDER --steps 129 19 10

trains a network at the global batches that make so many steps an epoch, as `distributed` trains it: once a seed by the
rule, by Adam at the square root of the paper's rate, and by Adam with linear scaling, LAMB, LARS and AdaDelta with the
paper's schedule, each at the best of several rates, which validation AUC with the first seed decides. The first number
of steps is the small batch: Adam and Muon at the best of several rates, of which the better is what all others are held
against; the other is trained with the first seed alone. A training that is finished in FOLDER is not trained again, so
the same command goes on where it was stopped; trainings run beside each other on `--cores`, one on each.

The table has the mean test AUC over seeds and its difference from the small batch with a 95 % interval, paired, with
the variances between patients and between seeds. FOLDER/results.csv has a row a training.

    python -m benchmarks.large_batch --figure=PICTURE.png "DenseNet-121=FOLDER/results.csv" "VGG-16=OTHER/results.csv"

draws such files, a panel each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radflow.data.dataset.reading import open_dataset
from radflow.evaluation.auc import auc_per_finding, mean_auc
from radflow.evaluation.predictions import Predictions, read_predictions
from radflow.evaluation.repeated import compare_repeated
from radflow.plots.style import BLUE, DPI, GREEN, GREY, ORANGE, PURPLE, WIDTH, tidy
from radflow.plots.tables import markdown_row, markdown_table
from radflow.training.history import HISTORY_FILE, read_epochs
from radflow.training.job_folder import JOB_FILE, PREDICTIONS_FILE, read_job

RATES = {
    "densenet121": {
        "adam": (0.0005, 0.001, 0.002, 0.004),
        "muon": (0.002, 0.004, 0.008, 0.016),
        "linear": (0.00002, 0.0001, 0.0005),
        "lamb": (0.015, 0.03, 0.06, 0.12),
        "lars": (3.0, 10.0, 30.0, 100.0),
        "adadelta": (0.5, 1.0, 3.0, 10.0),
    },
    "vgg16": {
        "adam": (0.00005, 0.0001, 0.0002),
        "muon": (0.0001, 0.0002, 0.0005),
        "linear": (0.000005, 0.00005, 0.0005),
        "lamb": (0.003, 0.01, 0.03),
        "lars": (0.3, 1.0, 3.0),
        "adadelta": (0.1, 0.5, 1.0),
    },
}
"""Peak learning rates tried; those of `adam` and `muon` are for the small batch, those of `linear` for 8 films."""
SMALL = ("muon", "adam")
"""Ways of training at the small batch."""
LABELS = {
    "auto": "the rule",
    "adam": "Adam, small batch",
    "muon": "Muon, small batch",
    "sqrt": "Adam, square root",
    "linear": "Adam, linear scaling",
    "lamb": "LAMB",
    "lars": "LARS",
    "adadelta": "AdaDelta, the paper's schedule",
}
COLOURS = dict(zip(LABELS, (BLUE, GREY, "#000000", "#56B4E9", ORANGE, GREEN, PURPLE, "#E69F00"), strict=True))
RULES = ("auto", "sqrt")
"""Ways whose rate follows from the batch."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    way: str
    steps: int
    """Optimiser steps of an epoch."""
    seed: int
    rate: float | None = None
    """Peak learning rate, or with linear scaling that for 8 films; None leaves it to the rule."""

    @property
    def name(self) -> str:
        rate = "" if self.rate is None else f"-{self.rate:g}"
        return f"{self.way}{rate}-steps{self.steps}-seed{self.seed}"

    @property
    def flags(self) -> list[str]:
        if self.way in RULES:
            return [] if self.way == "auto" else ["--optimizer=adam"]
        optimizer = "adam" if self.way == "linear" else self.way
        scaling = "linear" if self.way == "linear" else "none"
        schedule = ["--schedule=step", "--warmup_epochs=5"] if self.way == "adadelta" else []
        return [f"--optimizer={optimizer}", f"--base_lr={self.rate}", f"--lr_scaling={scaling}", *schedule]


@dataclass(frozen=True)
class Result:
    """What a training came to."""

    cell: Cell
    validation_auc: float
    """Mean AUC of the best epoch."""
    predictions: Predictions
    peak_lr: float
    total_steps: int

    @property
    def test_auc(self) -> float:
        return mean_auc(auc_per_finding(self.predictions))


class Trainer:
    """Trains cells by the entry point `distributed`, each in a folder of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out = Path(options.out).resolve()
        self.films = len(open_dataset(options.data).split("train"))
        self.cores: Queue[int] = Queue()
        for core in options.cores:
            self.cores.put(core)
        self.results: dict[str, Result] = {}

    def train(self, cells: Sequence[Cell]) -> list[Result | None]:
        """Train what is not finished yet; None for a training that diverged."""
        with ThreadPoolExecutor(len(self.options.cores)) as pool:
            return list(pool.map(self._train, cells))

    def _train(self, cell: Cell) -> Result | None:
        folder = self.out / cell.name
        failed = folder / "failed"
        if failed.exists():
            return None
        if (result := self._result(cell)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            code = self._run(self._command(cell, folder), folder / "output.log")
            result = self._result(cell)
            if code == 1 and result is None:  # diverged: the reason is in its output
                failed.touch()
        print(f"{cell.name}: {'failed' if result is None else f'test AUC {result.test_auc:.4f}'}", flush=True)
        if result:
            self.results[cell.name] = result
        return result

    def _run(self, command: list[str], log: Path) -> int:
        core = self.cores.get()
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.out / 'mlflow.db'}"}
        with log.open("ab") as output:
            line = ["taskset", "--cpu-list", str(core), *command]
            code = subprocess.run(line, env=environment, stdout=output, stderr=output, check=False).returncode
        self.cores.put(core)
        return code

    def _command(self, cell: Cell, folder: Path) -> list[str]:
        global_batch = -(-self.films // cell.steps)
        local_batch = min(self.options.lbz, global_batch)
        global_batch = -(-global_batch // local_batch) * local_batch  # whole micro-batches
        options = self.options
        flags = [f"--data={options.data}", f"--arch={options.arch}", f"--weights={options.weights}"]
        flags += [f"--gbz={global_batch}", f"--lbz={local_batch}", f"--epochs={options.epochs}", f"--seed={cell.seed}"]
        flags += ["--np=1", "--hosts=localhost:1", "--threads=1", f"--out={folder}", "--resume=auto", *cell.flags]
        return [sys.executable, "-m", "radflow", "distributed", *flags]

    def _result(self, cell: Cell) -> Result | None:
        for path in (self.out / cell.name).glob(f"*/{JOB_FILE}"):
            job = read_job(path.parent)
            if job.is_finished:
                areas = [epoch["val/auc/mean"] for epoch in read_epochs(job.folder / HISTORY_FILE)]
                predictions = read_predictions(job.folder / PREDICTIONS_FILE)
                steps = job.settings["epochs"] * job.settings["steps_per_epoch"]
                return Result(cell, max(area or 0.0 for area in areas), predictions, job.settings["peak_lr"], steps)
        return None


def ways(options: argparse.Namespace, trainer: Trainer, steps: int) -> Iterator[tuple[str, list[Result]]]:
    """Each way of training at so many steps an epoch, with its result for every seed."""
    is_small = steps == options.steps[0]
    first = {way: best_of_rates(options.arch, way, trainer, steps) for way in (SMALL if is_small else options.ways)}
    tried = {way: result for way, result in first.items() if result}
    best = max(tried, key=lambda way: tried[way].validation_auc, default=None)
    for way, result in tried.items():
        seeds = range(options.seeds if way == best or not is_small else 1)
        results = trainer.train([Cell(way, steps, seed, result.cell.rate) for seed in seeds])
        yield way, [result for result in results if result]


def best_of_rates(arch: str, way: str, trainer: Trainer, steps: int) -> Result | None:
    """The first seed's training at the rate that gives the best validation AUC; None where all diverged."""
    rates = [None] if way in RULES else RATES[arch][way]
    results = trainer.train([Cell(way, steps, 0, rate) for rate in rates])
    return max(filter(None, results), key=lambda result: result.validation_auc, default=None)


def main() -> None:
    options = read_options()
    if options.figure:
        draw(options.figure, dict(panel.split("=", 1) for panel in options.panels))
        return
    trainer = Trainer(options)
    small: list[Result] = []
    rows = []
    for steps in options.steps:
        for way, results in ways(options, trainer, steps):
            if steps == options.steps[0] and (not small or results[0].validation_auc > small[0].validation_auc):
                small = results
            rows.append((way, steps, results))
            print(markdown_row(row(way, steps, results, small)), flush=True)
            write_results(trainer)
    headings = ("way", "steps an epoch", "peak rate", "seeds", "mean test AUC", "against the small batch")
    print("\n" + markdown_table(headings, [row(*each, small) for each in rows], align="lrrrrl"))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", help="with --figure: TITLE=results.csv")
    parser.add_argument("--figure", help="picture to draw of earlier results; trains nothing")
    parser.add_argument("--data", help="dataset made by `preprocess`")
    parser.add_argument("--out", help="folder of the trainings")
    parser.add_argument("--arch", default="densenet121", choices=RATES)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--steps", nargs="+", type=int, default=[129, 19, 10], help="an epoch; the first: small batch")
    parser.add_argument(
        "--ways", nargs="+", default=["auto", "sqrt", "linear", "lamb", "lars", "adadelta"], help="of training"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lbz", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cores", nargs="+", type=int, default=[0, 1], help="to train on")
    options = parser.parse_args()
    if not options.figure and not (options.data and options.out):
        parser.error("give --data and --out, or --figure")
    return options


def write_results(trainer: Trainer) -> None:
    table = pd.DataFrame(
        {
            "way": result.cell.way,
            "rate": result.cell.rate,
            "steps": result.total_steps,
            "seed": result.cell.seed,
            "peak_lr": result.peak_lr,
            "validation_auc": result.validation_auc,
            "test_auc": result.test_auc,
        }
        for result in trainer.results.values()
    )
    table.to_csv(trainer.out / "results.csv", index=False)


def draw(path: str, panels: dict[str, str]) -> None:
    """Mean test AUC against the steps of a training, a line for each way and rate; the best rate of a way is bold."""
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI, layout="constrained")
    for axes, (title, file) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        table = pd.read_csv(file)
        table["rate"] = table["rate"].fillna(-1)  # that of the rule, which follows the batch
        for way, colour in COLOURS.items():
            lines = table[table["way"] == way].groupby(["rate", "steps"])["test_auc"].mean().reset_index()
            if lines.empty:
                continue
            best = lines.loc[lines["test_auc"].idxmax(), "rate"]
            for rate, line in lines.groupby("rate"):
                style = {"linewidth": 2.2, "label": LABELS[way]} if rate == best else {"linewidth": 0.8, "alpha": 0.6}
                axes.plot(line["steps"], line["test_auc"], color=colour, marker="o", markersize=4, **style)
        axes.set_xscale("log")
        axes.set_xlabel("Optimiser steps in all")
        axes.set_ylabel("Mean test AUC")
        axes.set_title(title, loc="left", fontsize=11)
        tidy(axes)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path)


def row(way: str, steps: int, results: list[Result], small: list[Result]) -> tuple[str, ...]:
    """A row of the table."""
    if not results:
        return way, str(steps), "", "0", "diverged", ""
    area = np.mean([result.test_auc for result in results])
    paired = [[result.predictions for result in each[: len(results)]] for each in (results, small)]
    against = ""
    if results is not small:
        tested = compare_repeated(*paired)
        against = f"{tested.difference:+.3f} ({tested.low:+.3f} to {tested.high:+.3f}), p = {tested.p_value:.2g}"
    return way, str(steps), f"{results[0].peak_lr:.3g}", str(len(results)), f"{area:.3f}", against


if __name__ == "__main__":
    main()
