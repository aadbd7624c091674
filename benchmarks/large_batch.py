"""What a large global batch costs in accuracy: the rule behind `auto` beside other optimisers, each at its best rate.

    python -m benchmarks.large_batch --data=DATASET --out=FOLDER --steps 129 19 10

trains a network at the global batches that make so many steps an epoch, as `distributed` trains it: once a seed by the
rule, by Adam at the square root of the paper's rate, and by Adam with linear scaling, LAMB, LARS and AdaDelta with the
paper's schedule, each at the best of several rates, which validation AUC with the first seed decides. The first number
of steps is the small batch: Adam and Muon at the best of several rates, of which the better is what all others are held
against; the other is trained with the first seed alone. Trainings run beside each other on `--cores`, one on each.

All of it takes days of a core. The same command goes on where it was stopped, on another machine too: the file
`--measured` has all that the table needs of each training that has ended, which is not run again. `--steps`, `--ways`,
`--rates` and `--seeds` do a part of it.

The table has the mean test AUC over seeds and its difference from the small batch with a 95 % interval, paired, with
the variances between patients and between seeds.

    python -m benchmarks.large_batch --figure=PICTURE.png DenseNet-121=FILE.jsonl VGG-16=OTHER.jsonl

draws such files, a panel each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.large_batch_results import Cell, Result, ResultsFile, read_results
from radflow.data.dataset.reading import open_dataset
from radflow.evaluation.repeated import compare_resampled
from radflow.plots.style import BLUE, DPI, GREEN, GREY, ORANGE, PURPLE, WIDTH, tidy
from radflow.plots.tables import markdown_table
from radflow.training.divergence import is_divergence
from radflow.training.job_folder import JOB_FILE, Job, read_job

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
class Row:
    """A way of training at so many steps an epoch."""

    way: str
    steps: int
    results: dict[int, Result]
    """Results by seed, of the trainings that did not diverge."""

    @property
    def validation_auc(self) -> float:
        """Mean validation AUC with the first seed, or 0 if that training diverged."""
        return self.results[0].validation_auc if 0 in self.results else 0.0

    def cells(self, reference: Row | None) -> tuple[str, ...]:
        """Its row of the table, against that of the small batch."""
        if not self.results:
            return LABELS[self.way], str(self.steps), "", "0", "diverged", ""
        results = list(self.results.values())
        against = ""
        if reference and reference is not self and (seeds := sorted(self.results.keys() & reference.results.keys())):
            tested = compare_resampled(*([row.results[seed].test for seed in seeds] for row in (self, reference)))
            against = f"{tested.difference:+.3f} ({tested.low:+.3f} to {tested.high:+.3f}), p = {tested.p_value:.2g}"
        area = f"{np.mean([result.test.auc for result in results]):.3f}"
        return LABELS[self.way], str(self.steps), f"{results[0].peak_lr:.3g}", str(len(results)), area, against


class Trainer:
    """Trains cells by the entry point `distributed`, each in a folder of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out = Path(options.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        dataset = open_dataset(options.data)
        self.films = len(dataset.split("train"))
        self.cores: Queue[int] = Queue()
        for core in options.cores:
            self.cores.put(core)
        conditions = {name: getattr(options, name) for name in ("arch", "epochs", "lbz")}
        conditions |= {"pretrained": options.weights != "none", "data": dataset.manifest.name}
        conditions |= {"image_size": dataset.manifest.image_size, "training_films": self.films}
        self.measured = ResultsFile(Path(options.measured or self.out / "measured.jsonl"), conditions)

    def train(self, cells: Iterable[Cell]) -> None:
        """Train what has not been trained yet."""
        cells = [cell for cell in cells if cell not in self.measured.results]
        with ThreadPoolExecutor(len(self.options.cores)) as pool:
            for cell, result in zip(cells, pool.map(self._train, cells), strict=True):
                self.measured.add(cell, result)
                print(f"{cell.name}: {f'test AUC {result.test.auc:.4f}' if result else 'diverged'}", flush=True)

    def results_of(self, cells: Sequence[Cell]) -> dict[int, Result]:
        """Results by seed, of the trainings that did not diverge."""
        return {cell.seed: result for cell in cells if (result := self.measured.results[cell])}

    def validation_auc(self, cell: Cell) -> float:
        """Mean validation AUC of a training's best epoch, or 0 if it diverged."""
        result = self.measured.results[cell]
        return result.validation_auc if result else 0.0

    def _train(self, cell: Cell) -> Result | None:
        """Return its result, or None if it diverged."""
        folder = self.out / cell.name
        if (job := finished_job(folder)) is None:
            folder.mkdir(exist_ok=True)
            log = folder / "output.log"
            self._run(self._command(cell, folder), log)
            job = finished_job(folder)
            if job is None and not is_divergence(log.read_text(encoding="utf-8")):
                raise SystemExit(f"{cell.name} has failed; see {log}")
        return Result.of_job(job) if job else None

    def _run(self, command: list[str], log: Path) -> None:
        core = self.cores.get()
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{self.out / 'mlflow.db'}"}
        with log.open("ab") as output:
            line = ["taskset", "--cpu-list", str(core), *command]
            subprocess.run(line, env=environment, stdout=output, stderr=output, check=False)
        self.cores.put(core)

    def _command(self, cell: Cell, folder: Path) -> list[str]:
        global_batch = -(-self.films // cell.steps)
        local_batch = min(self.options.lbz, global_batch)
        global_batch = -(-global_batch // local_batch) * local_batch  # whole micro-batches
        options = self.options
        flags = [f"--data={options.data}", f"--arch={options.arch}", f"--weights={options.weights}"]
        flags += [f"--gbz={global_batch}", f"--lbz={local_batch}", f"--epochs={options.epochs}", f"--seed={cell.seed}"]
        flags += ["--np=1", "--hosts=localhost:1", "--threads=1", f"--out={folder}", "--resume=auto"]
        return [sys.executable, "-m", "radflow", "distributed", *flags, *flags_of_way(cell)]


def flags_of_way(cell: Cell) -> list[str]:
    """What a way of training sets beside the batch; nothing where the rule decides."""
    if cell.way in RULES:
        return [] if cell.way == "auto" else ["--optimizer=adam"]
    optimizer = "adam" if cell.way == "linear" else cell.way
    scaling = "linear" if cell.way == "linear" else "none"
    schedule = ["--schedule=step", "--warmup_epochs=5"] if cell.way == "adadelta" else []
    return [f"--optimizer={optimizer}", f"--base_lr={cell.rate}", f"--lr_scaling={scaling}", *schedule]


def finished_job(folder: Path) -> Job | None:
    """The job in a cell's folder, if it has ended."""
    jobs = (read_job(path.parent) for path in folder.glob(f"*/{JOB_FILE}"))
    return next((job for job in jobs if job.is_finished), None)


Ways = dict[str, list[Cell]]
"""Trainings by way."""


def with_each_rate(options: argparse.Namespace, steps: int) -> Ways:
    """What decides the rate of each way at so many steps an epoch."""
    ways = [way for way in options.ways if (way in SMALL) == (steps == options.steps[0])]
    return {way: [Cell(way, steps, 0, rate) for rate in options.rates.get(way, [None])] for way in ways}


def with_each_seed(options: argparse.Namespace, trainer: Trainer, tried: Ways) -> Ways:
    """What is compared: each way at its best rate; of those at the small batch, the worse with the first seed alone."""
    best = {way: max(cells, key=trainer.validation_auc) for way, cells in tried.items()}
    best_of_all = max(best.values(), key=trainer.validation_auc, default=None)
    seeds = {way: 1 if way in SMALL and cell is not best_of_all else options.seeds for way, cell in best.items()}
    return {way: [replace(cell, seed=seed) for seed in range(seeds[way])] for way, cell in best.items()}


def cells_of(ways: Iterable[Ways]) -> list[Cell]:
    return [cell for each in ways for cells in each.values() for cell in cells]


def main() -> None:
    options = read_options()
    if options.figure:
        draw(options.figure, dict(panel.split("=", 1) for panel in options.panels))
        return
    trainer = Trainer(options)
    tried = [with_each_rate(options, steps) for steps in options.steps]
    trainer.train(cells_of(tried))
    repeated = [with_each_seed(options, trainer, each) for each in tried]
    trainer.train(cells_of(repeated))
    rows = [
        Row(way, steps, trainer.results_of(cells))
        for steps, ways in zip(options.steps, repeated, strict=True)
        for way, cells in ways.items()
    ]
    of_small = [row for row in rows if row.way in SMALL]
    reference = max(of_small, key=lambda row: row.validation_auc, default=None)
    headings = ("way", "steps an epoch", "peak rate", "seeds", "mean test AUC", "against the small batch")
    print("\n" + markdown_table(headings, [row.cells(reference) for row in rows], align="lrrrrl"))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", help="with --figure: TITLE=FILE.jsonl")
    parser.add_argument("--figure", help="picture to draw of earlier results; trains nothing")
    parser.add_argument("--data", help="dataset made by `preprocess`")
    parser.add_argument("--out", help="folder of the trainings")
    parser.add_argument("--measured", help="file of ended trainings; measured.jsonl in --out by default")
    parser.add_argument("--arch", default="densenet121", choices=RATES)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--steps", nargs="+", type=int, default=[129, 19, 10], help="an epoch; the first: small batch")
    parser.add_argument("--ways", nargs="+", default=list(LABELS), choices=LABELS, help="of training")
    parser.add_argument("--rates", nargs="+", default=[], metavar="WAY=RATE,RATE", help="instead of those above")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lbz", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cores", nargs="+", type=int, default=[0, 1], help="to train on")
    options = parser.parse_args()
    given = (each.split("=") for each in options.rates)
    options.rates = RATES[options.arch] | {way: tuple(map(float, rates.split(","))) for way, rates in given}
    if not options.figure and not (options.data and options.out):
        parser.error("give --data and --out, or --figure")
    return options


def draw(path: str, panels: dict[str, str]) -> None:
    """Mean test AUC against the steps of a training, a line for each way and rate; the best rate of a way is bold."""
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI, layout="constrained")
    for axes, (title, file) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        results = [(cell, result) for cell, _, result in read_results(Path(file)) if result]
        table = pd.DataFrame(
            {"way": cell.way, "rate": cell.rate or 0.0, "steps": result.total_steps, "auc": result.test.auc}
            for cell, result in results
        )
        for way, colour in COLOURS.items():
            lines = table[table["way"] == way].groupby(["rate", "steps"])["auc"].mean().reset_index()
            if lines.empty:
                continue
            best = lines.loc[lines["auc"].idxmax(), "rate"]
            for rate, line in lines.groupby("rate"):
                style = {"linewidth": 2.2, "label": LABELS[way]} if rate == best else {"linewidth": 0.8, "alpha": 0.6}
                axes.plot(line["steps"], line["auc"], color=colour, marker="o", markersize=4, **style)
        axes.set_xscale("log")
        axes.set_xlabel("Optimiser steps in all")
        axes.set_ylabel("Mean test AUC")
        axes.set_title(title, loc="left", fontsize=11)
        tidy(axes)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
