"""The study that workers share: trials are counted once, whoever dies, and a continued study draws the same."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from radflow.errors import UserError
from radflow.search import study as study_module
from radflow.search.config import SearchConfig
from radflow.search.storage import JournalFile, PostgreSQL, StudyStorage
from radflow.search.study import create_or_load_study, ended_trials, fail_and_retry, fail_lost_trials, next_trial

SETTINGS = SearchConfig(n_trials=6, startup_trials=3)


def found(storage: StudyStorage, name: str = "study", **definition: object) -> optuna.Study:
    with storage.exclusive():
        return create_or_load_study(name, storage, definition, [{"x": 0.5}])


def take(study: optuna.Study, storage: StudyStorage) -> optuna.Trial | None:
    """What a worker does first."""
    with storage.exclusive():
        fail_lost_trials(study)
        trial = next_trial(study, SETTINGS)
        if trial is not None:
            trial.suggest_float("x", 0, 1)
        return trial


def all_values(study: optuna.Study, storage: StudyStorage) -> list[float]:
    """Work until no trial is left; the score is the parameter itself."""
    values = []
    while (trial := take(study, storage)) is not None:
        study.tell(trial, trial.params["x"])
        values.append(trial.params["x"])
    return values


def is_each_counted_once(study: optuna.Study) -> bool:
    trials = ended_trials(study)
    return len(trials) == SETTINGS.n_trials and all(trial.state == TrialState.COMPLETE for trial in trials)


def test_the_baseline_comes_first_and_only_once(journal: StudyStorage) -> None:
    found(journal)
    study = found(journal)
    values = all_values(study, journal)
    assert len(values) == SETTINGS.n_trials
    assert values.count(0.5) == 1
    assert values[0] == 0.5


def test_a_study_of_another_definition_is_refused(journal: StudyStorage) -> None:
    found(journal, epochs=10)
    with pytest.raises(UserError, match="epochs=10, now 5"):
        found(journal, epochs=5)


def test_a_continued_study_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    whole = JournalFile(tmp_path / "whole.journal")
    uninterrupted = all_values(found(whole), whole)
    parts = JournalFile(tmp_path / "parts.journal")
    study = found(parts)
    first = take(study, parts)
    assert first is not None
    study.tell(first, first.params["x"])
    assert [first.params["x"], *all_values(found(parts), parts)] == uninterrupted
    assert len(set(uninterrupted)) == SETTINGS.n_trials


def founders_at_once(storage: StudyStorage) -> optuna.Study:
    def work() -> None:
        all_values(found(storage, "together"), storage)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found(storage, "together")


def test_workers_that_start_together_take_each_trial_once(journal: StudyStorage) -> None:
    study = founders_at_once(journal)
    assert is_each_counted_once(study)
    assert len(study.trials) == SETTINGS.n_trials


@pytest.mark.slow
def test_workers_that_start_together_on_a_fresh_database(postgresql: PostgreSQL) -> None:
    study = founders_at_once(postgresql)
    assert is_each_counted_once(study)
    assert len(study.trials) == SETTINGS.n_trials


def test_a_database_that_does_not_answer_is_told_without_the_password() -> None:
    storage = PostgreSQL("postgresql://me:secret@127.0.0.1:9/nothing")
    with pytest.raises(UserError, match="refused") as told, storage.exclusive():
        pass
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


TAKE_AND_DIE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_study import found, take
from radflow.search.storage import JournalFile
storage = JournalFile(Path(sys.argv[2]))
take(found(storage), storage)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_trial_of_a_killed_worker_is_failed_and_run_again(journal: JournalFile) -> None:
    line = [sys.executable, "-c", TAKE_AND_DIE, str(Path(__file__).parent), str(journal.path)]
    assert subprocess.run(line, check=False).returncode == -9
    study = found(journal)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    values = all_values(study, journal)
    assert values.count(0.5) == 1
    assert study.trials[0].state == TrialState.FAIL
    assert is_each_counted_once(study)
    assert len(study.trials) == SETTINGS.n_trials + 1


def run_of_a_dead_worker(study: optuna.Study, storage: StudyStorage) -> FrozenTrial:
    trial = take(study, storage)
    assert trial is not None
    trial.set_user_attr("owner", {"host": "elsewhere", "pid": 1, "started": 0.0})
    trial.set_user_attr("seen", time.time() - study_module.SILENCE - 1)
    return study.trials[trial.number]


def test_a_trial_whose_workers_keep_dying_is_given_up(journal: StudyStorage) -> None:
    study = found(journal)
    for _ in range(study_module.ATTEMPTS):
        assert run_of_a_dead_worker(study, journal).params == {"x": 0.5}
    values = all_values(study, journal)
    assert 0.5 not in values
    assert len(values) == SETTINGS.n_trials - 1
    assert len(ended_trials(study)) == SETTINGS.n_trials


def test_a_trial_that_a_user_stopped_is_run_again_however_often(journal: StudyStorage) -> None:
    study = found(journal)
    for _ in range(study_module.ATTEMPTS + 2):
        trial = take(study, journal)
        assert trial is not None
        assert trial.params == {"x": 0.5}
        assert fail_and_retry(study, study.trials[trial.number], counts=False)
    assert len(ended_trials(study)) == 0


def test_a_worker_elsewhere_that_shows_life_keeps_its_trial(journal: StudyStorage) -> None:
    study = found(journal)
    trial = run_of_a_dead_worker(study, journal)
    study._storage.set_trial_user_attr(trial._trial_id, "seen", time.time())
    with journal.exclusive():
        assert fail_lost_trials(study) == []
