"""What a study leaves: figures beside what the paper's show, data, verdicts on claims, and one page of it all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from radflow.files import atomic_file
from radflow.plots.page import Section, page_html, picture_of
from radflow.plots.report import RESEARCH_ONLY
from radflow.plots.tables import markdown_table, terminal_table
from radflow.studies.experiment import Experiment
from radflow.studies.outcome import Outcome
from radflow.studies.verdicts import Judged, Verdict
from radflow.terminal import print_table, say
from radflow.tracking.run import TrackedRun

KIND_TAG, KIND, SCALE_TAG = "radflow.kind", "study", "radflow.scale"
"""Tags of the run of a study, beside `STUDY_TAG`."""
CLAIMS_FILE = "claims.json"
PAGE_FILE = "report.html"
CLAIM_HEADINGS = ("Claim", "Verdict", "Evidence", "p")
_CELL_COLUMNS = {
    "arm": ("Arm", ".40"),
    "rate": ("Rate", "g"),
    "seed": ("Seed", "g"),
    "state": ("State", ""),
    "epochs": ("Epochs", "g"),
    "optimizer": ("Optimiser", ""),
    "peak_lr": ("Peak rate", ".3g"),
    "best_val_loss": ("Val loss", ".4f"),
    "best_val_auc": ("Val AUC", ".3f"),
    "test_auc": ("Test AUC", ".3f"),
    "seconds_per_epoch": ("s/epoch", ".1f"),
    "images_per_second": ("Images/s", ".1f"),
    "run": ("Run", ".8"),
}
"""Columns of the table of trainings: heading, and how a value is written."""


class StudyReport:
    """Tells of a study, to its MLflow run and in its folder."""

    def __init__(self, experiment: Experiment, facts: Mapping[str, str], folder: Path) -> None:
        self._experiment = experiment
        self._facts = facts
        self._folder = folder

    def write(self, outcome: Outcome, judged: Sequence[Judged], run: TrackedRun) -> None:
        """Log all, print the claims, and say where the page is."""
        figures = self._experiment.draw(outcome)
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                self._log_figure(figure, self._folder / f"{name}.{suffix}", run)
        if outcome.results:
            self._log_data(outcome, run)
        self._log_text(json.dumps([each.to_json() for each in judged], indent=1), self._folder / CLAIMS_FILE, run)
        self._log_text(self._page(outcome, judged, figures), self._folder / PAGE_FILE, run)
        run.log_metrics(_metrics(outcome, judged), step=0)
        run.set_note(self._note(judged))
        rows = claim_rows(judged)
        print_table(terminal_table(self._experiment.title, CLAIM_HEADINGS, rows, "lllr"))
        say(f"report: {self._folder / PAGE_FILE}")

    def _log_figure(self, figure: Figure, path: Path, run: TrackedRun) -> None:
        with atomic_file(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."))
        run.log_file(path, "figures")

    def _log_text(self, text: str, path: Path, run: TrackedRun) -> None:
        with atomic_file(path) as file:
            file.write_text(text, encoding="utf-8")
        run.log_file(path)

    def _log_data(self, outcome: Outcome, run: TrackedRun) -> None:
        for name, table in (("cells", outcome.cells_table()), ("epochs", outcome.epochs_table())):
            for suffix, write in ((".csv", _write_csv), (".parquet", _write_parquet)):
                path = self._folder / f"{name}{suffix}"
                with atomic_file(path) as file:
                    write(table, file)
                run.log_file(path, "data")
            run.log_table(table, f"{name}.json")

    def _page(self, outcome: Outcome, judged: Sequence[Judged], figures: Mapping[str, Figure]) -> str:
        experiment = self._experiment
        sections = [
            Section("Claims", "", CLAIM_HEADINGS, claim_rows(judged), has_words=True),
            Section(
                f"Figures, beside {experiment.source}",
                f"What is printed there: {experiment.paper}",
                pictures=[picture_of(figure) for figure in figures.values()],
            ),
        ]
        if outcome.results:
            headings, rows = cell_rows(outcome)
            diverged = ", ".join(result.cell.title for result in outcome.diverged)
            remark = [f"The loss of these was not finite in the end: {diverged}."] if diverged else []
            sections.append(Section("Trainings", "", headings, rows, remarks=remark))
        sections.append(Section("The experiment", preformatted=experiment.description))
        return page_html(experiment.title, self._facts, sections)

    def _note(self, judged: Sequence[Judged]) -> str:
        table = markdown_table(CLAIM_HEADINGS, claim_rows(judged), align="lllr")
        facts = ", ".join(f"{name} {value}" for name, value in self._facts.items())
        return f"**{self._experiment.title}** ({self._experiment.source})\n\n{facts}\n\n{table}\n\n*{RESEARCH_ONLY}*\n"


def claim_rows(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Rows of the table of claims."""
    return [(each.claim, str(each.verdict), each.evidence, _p(each.p_value)) for each in judged]


def cell_rows(outcome: Outcome) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table of trainings; a column that is empty everywhere is left out."""
    table = outcome.cells_table()[list(_CELL_COLUMNS)].dropna(axis="columns", how="all")
    headings, formats = zip(*(_CELL_COLUMNS[str(column)] for column in table), strict=True)
    rows = [tuple(map(_cell, row, formats)) for row in table.itertuples(index=False)]
    return headings, rows


def _metrics(outcome: Outcome, judged: Sequence[Judged]) -> dict[str, float]:
    counts = {verdict: sum(each.verdict == verdict for each in judged) for verdict in Verdict}
    return {
        "study/cells/finished": float(len(outcome.results) - len(outcome.diverged)),
        "study/cells/diverged": float(len(outcome.diverged)),
        "study/claims/reproduced": float(counts[Verdict.REPRODUCED]),
        "study/claims/not_reproduced": float(counts[Verdict.NOT_REPRODUCED]),
        "study/claims/not_testable": float(counts[Verdict.NOT_TESTABLE]),
    }


def _write_csv(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False)


def _write_parquet(table: pd.DataFrame, file: Path) -> None:
    table.to_parquet(file, index=False)


def _cell(value: Any, spec: str) -> str:
    return "" if pd.isna(value) else format(value, spec)


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "below .0001" if value < 1e-4 else f"{value:.2g}"
