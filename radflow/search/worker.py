"""A worker: takes one trial of the study after the other until all are taken, and trains it."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from radflow.errors import MISTAKE, Interrupted, UserError
from radflow.search.config import SearchConfig
from radflow.search.runs import end_trial_run, start_trial_run
from radflow.search.settings import shared_settings, trial_config
from radflow.search.space import Space, parse_space
from radflow.search.storage import StudyStorage
from radflow.search.study import LostTrial, build_pruner, fail_and_retry, fail_lost_trials, next_trial, show_life
from radflow.terminal import say
from radflow.tracking.signals import signals_raise
from radflow.training.child_process import Ended, Epoch, follow_training, training_command
from radflow.training.config import DistributedConfig

SCORE = "val/auc/mean"
"""What a trial is judged by after each epoch, and in the end by its best epoch: validation films, never test films."""
_LIFE_EVERY = 30.0

Commander = Callable[[DistributedConfig], list[str]]


class Worker:
    """Trains trials of one study, one at a time."""

    def __init__(
        self,
        config: SearchConfig,
        name: str,
        storage: StudyStorage,
        folder: Path,
        command: Commander = training_command,
    ) -> None:
        self._config = config
        self._storage = storage
        self._folder = folder
        self._command = command
        with storage.exclusive():
            self._study = optuna.load_study(study_name=name, storage=storage.open(), pruner=build_pruner(config))
        self._space: Space = parse_space(self._study.user_attrs["definition"]["space"])

    def work(self) -> None:
        """Train trials until none is left to take.

        Raises
        ------
        UserError
            A training was told something wrong, so that others would be too; its trial is queued again.
        Interrupted
            This process was told to stop; its training has ended and its trial is queued again.
        """
        with signals_raise() as gate:
            gate.open()
            while (taken := self._take()) is not None:
                trial, chosen = taken
                try:
                    self._train(trial, chosen)
                except UpdateFinishedTrialError:
                    say(f"trial {trial.number} was given to another worker, since this one had not been heard of")
                except (UserError, Interrupted) as error:
                    gate.close()
                    self._give_back(trial, str(error))
                    raise

    def _take(self) -> tuple[optuna.Trial, dict[str, Any]] | None:
        with self._storage.exclusive():
            lost = fail_lost_trials(self._study)
            trial = next_trial(self._study, self._config)
            taken = None if trial is None else (trial, self._space.suggest(trial, shared_settings(self._config)))
        for each in lost:
            self._close_lost(each)
        return taken

    def _train(self, trial: optuna.Trial, chosen: dict[str, Any]) -> None:
        folder = self._folder_of(trial.number)
        training = trial_config(self._config, self._space, chosen, folder)
        run_id = start_trial_run(self._study, trial.number)
        trial.set_user_attr("run_id", run_id)
        scores: list[float] = []
        life_shown = time.monotonic()

        def should_continue(epoch: Epoch) -> bool:
            score = epoch[SCORE]
            if score is not None:
                scores.append(score)
                trial.report(score, int(epoch["epoch"] or 0))
            return epoch["epoch"] == training.epochs or not trial.should_prune()

        def on_poll() -> None:
            nonlocal life_shown
            if time.monotonic() - life_shown > _LIFE_EVERY:
                life_shown = time.monotonic()
                show_life(trial)

        ended = follow_training(self._command(training), folder, {"MLFLOW_RUN_ID": run_id}, should_continue, on_poll)
        self._conclude(trial, run_id, ended, scores)
        _remove_checkpoints(folder)

    def _conclude(self, trial: optuna.Trial, run_id: str, ended: Ended, scores: list[float]) -> None:
        """Tell the study and MLflow how the trial ended; if this process dies in between, the study knows already."""
        best = max(scores, default=math.nan)
        if ended.was_stopped:
            self._study.tell(trial, state=TrialState.PRUNED)
            state, reason = "pruned", f"pruned after epoch {len(scores)}: {SCORE} was {best:.4f} at best"
        elif ended.code == MISTAKE:
            raise UserError(ended.last_line.removeprefix("error: "))
        elif ended.code or not scores:
            reason = ended.last_line if ended.code else f"{SCORE} is not a number; both classes are needed in val"
            self._study.tell(trial, state=TrialState.FAIL)
            state, reason = "failed", f"exit code {ended.code}: {reason}" if ended.code else reason
        else:
            self._study.tell(trial, best)
            state, reason = "complete", f"{SCORE} {best:.4f}"
        end_trial_run(run_id, state, reason)
        say(f"trial {trial.number} {state}: {reason}; {_in_words(trial)}")

    def _give_back(self, trial: optuna.Trial, reason: str) -> None:
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        with self._storage.exclusive():
            fail_and_retry(self._study, frozen, counts=False)
        self._close(frozen, f"{reason}; the trial will be run again")

    def _close_lost(self, lost: LostTrial) -> None:
        outcome = "the trial is run again" if lost.is_retried else "the trial has had its attempts"
        say(f"trial {lost.trial.number} failed: its worker died; {outcome}")
        self._close(lost.trial, f"the worker died; {outcome}")

    def _close(self, trial: optuna.trial.FrozenTrial, reason: str) -> None:
        if run_id := trial.user_attrs.get("run_id"):
            end_trial_run(run_id, "failed", reason)
        _remove_checkpoints(self._folder_of(trial.number))

    def _folder_of(self, number: int) -> Path:
        return self._folder / f"trial-{number:03d}"


def _in_words(trial: optuna.Trial) -> str:
    values = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.params.values())
    return ", ".join(f"{label} {value}" for label, value in zip(trial.params, values, strict=True))


def _remove_checkpoints(folder: Path) -> None:
    """A trial's weights are of no use: the best setting is trained again, on the test films too."""
    for job in folder.glob("*/"):
        shutil.rmtree(job, ignore_errors=True)
