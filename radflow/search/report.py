"""What a search has found: the best setting as a file, the table of trials, metrics, pictures and a note."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import optuna
import pandas as pd
import yaml
from optuna.importance import get_param_importances
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from rich.table import Table

from radflow.files import atomic_file
from radflow.plots.tables import markdown_table, terminal_table
from radflow.search.config import SearchConfig
from radflow.search.figures import DrawnTrial, history_figure, importances_figure, parallel_figure, slice_figure
from radflow.search.settings import settings_to_repeat, shared_settings, trial_config
from radflow.search.space import Space
from radflow.search.study import ended_trials
from radflow.tracking.run import TrackedRun

BEST_FILE = "best.yaml"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_ENOUGH_FOR_IMPORTANCES = 4
"""Complete trials that have a parameter, for a word on its importance."""
_TOP = 5


class SearchReport:
    """Tells of one study, to its MLflow run and in its folder."""

    def __init__(self, study: optuna.Study, config: SearchConfig, space: Space, folder: Path, run: TrackedRun) -> None:
        self._study = study
        self._config = config
        self._space = space
        self._best_file = folder / BEST_FILE
        self._run = run
        self._told = -1

    def update(self) -> None:
        """Log counts and the best setting so far, if a trial has ended since the last time."""
        trials = ended_trials(self._study)
        if len(trials) == self._told:
            return
        self._told = len(trials)
        states = [_STATES[trial.state] for trial in trials]
        metrics = {f"search/trials/{state}": float(states.count(state)) for state in _STATES.values()}
        if best := best_trial(trials):
            metrics["search/best_val_auc"] = best.value or math.nan
            self._write_best(best)
            self._run.log_file(self._best_file)
            tags = {"radflow.best_trial": best.number, "radflow.best_run": best.user_attrs.get("run_id", "")}
            self._run.set_tags(tags)
        self._run.log_metrics(metrics, step=len(trials))

    def conclude(self) -> Table:
        """Log the table of trials, the pictures and the note; the best trials as a table for the terminal."""
        trials = ended_trials(self._study)
        rows = self._rows(trials)
        self._run.log_table(rows, "trials.json")
        self._draw(trials)
        best = rows[rows["state"] == "complete"].nlargest(_TOP, "val_auc").dropna(axis="columns", how="all")
        self._run.set_note(self._note(trials, best))
        return _table(best, f"{self._study.study_name}: the best of {len(trials)} trials")

    @property
    def best_file(self) -> Path:
        """The best setting, as `distributed` takes it."""
        return self._best_file

    def _write_best(self, best: FrozenTrial) -> None:
        training = trial_config(self._config, self._space, self._chosen(best), self._best_file.parent)
        head = f"# Study {self._study.study_name}, trial {best.number}: mean validation AUC {best.value:.4f}\n"
        with atomic_file(self._best_file) as temporary:
            temporary.write_text(head + yaml.safe_dump(settings_to_repeat(training), sort_keys=False), encoding="utf-8")

    def _chosen(self, trial: FrozenTrial) -> dict[str, object]:
        """The trial's parameters by their own names."""
        return self._space.suggest(FixedTrial(trial.params), shared_settings(self._config))

    def _rows(self, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "trial": trial.number,
                "state": _STATES[trial.state],
                "val_auc": _score(trial),
                "epochs": trial.last_step or 0,
                "minutes": trial.duration.total_seconds() / 60 if trial.duration else math.nan,
                **(self._chosen(trial) if trial.state != TrialState.FAIL else {}),
                "run": trial.user_attrs.get("run_id", ""),
            }
            for trial in trials
        )

    def _draw(self, trials: Sequence[FrozenTrial]) -> None:
        name = self._study.study_name
        by_label = [DrawnTrial(each.number, _STATES[each.state], _score(each), each.params) for each in trials]
        self._run.log_figure(history_figure(by_label, f"{name}: trials"), "figures/history.png")
        shown = [trial for trial in trials if math.isfinite(_score(trial))]
        if not shown:
            return
        by_name = [DrawnTrial(each.number, _STATES[each.state], _score(each), self._chosen(each)) for each in shown]
        self._run.log_figure(slice_figure(by_label, f"{name}: score by parameter"), "figures/slice.png")
        self._run.log_figure(parallel_figure(by_name, f"{name}: parallel coordinates"), "figures/parallel.png")
        if importances := _importances(self._study, trials):
            figure = importances_figure(importances, f"{name}: importance of parameters")
            self._run.log_figure(figure, "figures/importances.png")

    def _note(self, trials: Sequence[FrozenTrial], best: pd.DataFrame) -> str:
        states = [_STATES[trial.state] for trial in trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in _STATES.values())
        text = (
            f"Search of {self._config.arch} at GBZ {self._config.gbz}: {len(trials)} trials ({counts}), "
            "judged by mean validation AUC of the best epoch. Test films were not looked at.\n"
        )
        if best.empty:
            return text
        shown = best.drop(columns=["state", "run"])
        table = markdown_table(list(shown.columns), _cells(shown))
        return f"{text}\n{table}\n\nTrain the best: `mlflow run . -e distributed -P config={self._best_file}`\n"


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial of highest score, the first of equals; None where none is complete."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def _score(trial: FrozenTrial) -> float:
    """Validation AUC of the best epoch that the trial reached; NaN where it reached none."""
    return max(trial.intermediate_values.values(), default=math.nan)


def _importances(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Importances by PED-ANOVA of the parameters that enough complete trials have; empty where there are none."""
    had = Counter(label for trial in trials if trial.state == TrialState.COMPLETE for label in trial.params)
    labels = [label for label, count in had.items() if count >= _ENOUGH_FOR_IMPORTANCES]
    with warnings.catch_warnings():
        # Of values that only one trial has: the documentation says what importances of few trials are worth.
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)
        return get_param_importances(study, params=labels) if labels else {}


def _table(rows: pd.DataFrame, title: str) -> Table:
    shown = rows.drop(columns=["state", "run"])
    return terminal_table(title, list(shown.columns), _cells(shown))


def _cells(rows: pd.DataFrame) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in rows.itertuples(index=False)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
