"""The study that workers share: how it is founded, which trial comes next, what becomes of a dead worker's trial."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from radflow.errors import UserError
from radflow.processes import started_at
from radflow.search.config import SearchConfig
from radflow.search.storage import StudyStorage

ATTEMPTS = 3
"""How often a trial is started whose worker dies."""
SILENCE = 300.0
"""Seconds without a sign of life after which a worker of another machine counts as dead."""
PRUNER_STARTUP = 4
"""Trials that end before the median of the others says anything."""

_OWNER, _SEEN, _ATTEMPT, _RETRY_OF = "owner", "seen", "attempt", "retry_of"
_DEFINITION = "definition"

COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class LostTrial:
    """A trial whose worker died."""

    trial: FrozenTrial
    is_retried: bool


def create_or_load_study(
    name: str, storage: StudyStorage, definition: dict[str, Any], baseline: Sequence[dict[str, Any]]
) -> optuna.Study:
    """Make the study with the baseline as its first trials, or resume it; to be called under `exclusive`.

    Raises UserError where the study was made with another definition.
    """
    study = optuna.create_study(study_name=name, storage=storage.open(), direction="maximize", load_if_exists=True)
    known = study.user_attrs.get(_DEFINITION)
    if known is None:
        for params in baseline:
            study.enqueue_trial(params, skip_if_exists=True)
        study.set_user_attr(_DEFINITION, definition)
    elif known != definition:
        changed = ", ".join(
            f"{key}={value}, now {definition.get(key)}" for key, value in known.items() if definition.get(key) != value
        )
        raise UserError(f"study={name} was made with {changed}; give another study name, or the same parameters")
    return study


def next_trial(study: optuna.Study, config: SearchConfig) -> optuna.Trial | None:
    """Take the next trial for this process, or None where `n_trials` are taken; to be called under `exclusive`.

    The sampler is seeded by the seed and the trial's number, so that two workers never draw the same numbers and a
    study that is continued draws what it would have drawn.
    """
    trials = study.get_trials(deepcopy=False)
    retried = _retried(trials)
    counted = [trial for trial in trials if trial.state in COUNTED and trial.number not in retried]
    if len(counted) >= config.n_trials:
        return None
    study.sampler = _sampler(config, len(trials))
    trial = study.ask()
    trial.set_user_attr(_OWNER, {"host": platform.node(), "pid": os.getpid(), "started": started_at(os.getpid())})
    show_life(trial)
    return trial


def show_life(trial: optuna.Trial) -> None:
    """Tell workers of other machines that this trial's worker is alive."""
    trial.set_user_attr(_SEEN, time.time())


def fail_lost_trials(study: optuna.Study) -> list[LostTrial]:
    """Fail the running trials whose worker is dead and queue them again; to be called under `exclusive`."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [LostTrial(trial, fail_and_retry(study, trial)) for trial in running if _is_lost(trial)]


def fail_and_retry(study: optuna.Study, trial: FrozenTrial, counts: bool = True) -> bool:
    """Fail a trial and queue another with the same parameters, unless it has had its attempts; whether it was queued.

    `counts` says whether this was one of its attempts: a user's Ctrl-C is not the trial's fault.
    """
    attempt = trial.user_attrs.get(_ATTEMPT, 1) + counts
    retry = attempt <= ATTEMPTS
    # Queued before it is failed: a process that dies in between leaves a lost trial, which is found again.
    if retry and trial.number not in _retried(study.get_trials(deepcopy=False)):
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        study.enqueue_trial(params, user_attrs={_RETRY_OF: trial.number, _ATTEMPT: attempt})
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    return retry


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count and have ended, by number: those of dead workers are represented by their retries."""
    trials = study.get_trials(deepcopy=False)
    retried = _retried(trials)
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in retried]


def build_pruner(config: SearchConfig) -> BasePruner:
    """The pruner that `pruner` names, for trials that report after each epoch, counted from 1."""
    min_epochs = min(config.min_epochs, config.epochs)
    match config.pruner:
        case "median":
            return MedianPruner(n_startup_trials=PRUNER_STARTUP, n_warmup_steps=min_epochs)
        case "hyperband":
            return HyperbandPruner(min_resource=min_epochs, max_resource=config.epochs)
        case "none":
            return NopPruner()


def _sampler(config: SearchConfig, number: int) -> TPESampler:
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # `group` models conditional parameters jointly where they occur together; Optuna calls it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=config.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        )


def _retried(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.user_attrs[_RETRY_OF] for trial in trials if _RETRY_OF in trial.user_attrs}


def _is_lost(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(_OWNER)
    if owner is None:  # its process died while it held the lock that we hold now
        return True
    if owner["host"] == platform.node():
        started = started_at(owner["pid"])
        return started is None or abs(started - owner["started"]) > 1.0
    return time.time() - trial.user_attrs.get(_SEEN, 0.0) > SILENCE
