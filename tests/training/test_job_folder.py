"""Jobs that `resume` takes up: not finished or damaged ones, but those that died at the very end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radflow.errors import UserError
from radflow.training.config import TrainConfig
from radflow.training.history import HISTORY_FILE, read_epochs, write_epoch
from radflow.training.job_folder import (
    PREDICTIONS_FILE,
    Job,
    earlier_speed,
    job_to_resume,
    make_job_folder,
    mark_finished,
)
from radflow.training.plan import TrainingFilms, make_plan

FILMS = TrainingFilms("phantoms", 64, 500, "digest")


def settings(out: Path, **told: Any) -> dict[str, Any]:
    return make_plan(TrainConfig(out=str(out), **told), FILMS, 16, 16, ranks=1).settings


def job_in(out: Path, **told: Any) -> Job:
    job = Job(make_job_folder(out, "densenet121"), "run", settings(out, **told))
    job.write()
    return job


def test_a_job_that_died_between_its_predictions_and_its_model_is_resumed(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    (job.folder / PREDICTIONS_FILE).touch()
    assert job_to_resume(settings(tmp_path, resume="auto")) == job
    mark_finished(job.folder)
    assert job_to_resume(settings(tmp_path, resume="auto")) is None


def test_a_finished_job_that_assessed_nothing_is_not_trained_again(tmp_path: Path) -> None:
    job = job_in(tmp_path, assess=False)
    mark_finished(job.folder)
    assert job_to_resume(settings(tmp_path, assess=False, resume="auto")) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": "0"}'])
def test_a_damaged_job_does_not_stand_in_the_way_of_others(tmp_path: Path, content: str, capsys) -> None:
    job = job_in(tmp_path)
    damaged = tmp_path / "99991231-235959-densenet121"
    damaged.mkdir()
    (damaged / "job.json").write_text(content)
    assert job_to_resume(settings(tmp_path, resume="auto")) == job
    assert f"warning: resume={damaged}" in capsys.readouterr().err
    with pytest.raises(UserError, match="not the folder of a training job"):
        job_to_resume(settings(tmp_path, resume=str(damaged)))


def test_other_settings_are_another_job_and_ranks_are_not(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    assert job_to_resume(settings(tmp_path, seed=1, resume="auto")) is None
    on_two_ranks = make_plan(TrainConfig(out=str(tmp_path), resume="auto"), FILMS, 16, 8, ranks=2).settings
    assert on_two_ranks["norm"] == "sync_batch"
    assert job_to_resume(on_two_ranks) == job
    with pytest.raises(UserError, match="started with seed=0, not 1"):
        job_to_resume(settings(tmp_path, seed=1, resume=str(job.folder)))


def test_the_speed_of_an_earlier_job_is_known_where_all_that_it_depends_on_is_the_same(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    assert earlier_speed(tmp_path, settings(tmp_path)) is None
    for epoch, speed in enumerate([10.0, 50.0, float("nan")], start=1):
        write_epoch(job.folder, epoch, {"throughput/images_per_second": speed})
    known = earlier_speed(tmp_path, settings(tmp_path, seed=7))
    assert known is not None
    assert (known.images_per_second, known.folder) == (50.0, job.folder)
    assert earlier_speed(tmp_path, settings(tmp_path, threads=1)) is None


def test_an_epoch_after_one_that_a_killed_writer_left_half_is_read(tmp_path: Path) -> None:
    write_epoch(tmp_path, 1, {"val/loss": 0.5})
    with (tmp_path / HISTORY_FILE).open("a") as file:
        file.write('{"epoch": 2, "val/lo')
    write_epoch(tmp_path, 2, {"val/loss": 0.25})
    assert [epoch["val/loss"] for epoch in read_epochs(tmp_path / HISTORY_FILE)] == [0.5, 0.25]
