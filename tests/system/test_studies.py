"""A study by the real command: killed, resumed, reported; and mistakes of its user."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from commands import Command, run_radflow, runs_of, user_environment

STUDY = ("--name=ensembles", "--scale=data", "--data=dataset", "--arch=vgg16", "--seeds=1", "--epochs=4", "--np=1")


@pytest.mark.long
def test_a_study_that_is_killed_goes_on_where_it_was(workplace: Path, command: Command) -> None:
    line = [sys.executable, "-m", "radflow", "study", *STUDY]
    cells = workplace / "studies" / "cells"
    with subprocess.Popen(line, cwd=workplace, env=user_environment(workplace), stderr=subprocess.PIPE) as killed:
        deadline = time.monotonic() + 240
        while len(list(cells.glob("*"))) < 2:  # the second cell has begun
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        below = psutil.Process(killed.pid).children(recursive=True)
        killed.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs(below, timeout=60)[1]
    first = next(cells.glob("*/*/finished"))
    finished_at = first.stat().st_mtime

    ended = command("study", *STUDY)
    assert ended.returncode == 0, ended.stderr
    assert "single models, seed 0: trained before" in ended.stderr
    assert first.stat().st_mtime == finished_at
    assert len(list(cells.glob("*/*/finished"))) == len(list(cells.glob("*/*/job.json"))) == 2
    runs = [run for run in runs_of(workplace) if run.data.tags.get("radflow.study") == "ensembles"]
    trained = [run for run in runs if "radflow.cell" in run.data.tags]
    (report,) = [run for run in runs if run.data.tags.get("radflow.kind") == "study"]
    assert [run.info.status for run in [*trained, report]] == ["FINISHED"] * 3
    assert sorted(run.data.tags["radflow.study.ensembles"] for run in trained) == [
        "collapsed ensembles, seed 0", "single models, seed 0",
    ]  # fmt: skip
    (folder,) = (workplace / "studies").glob("ensembles-data-*")
    table = pd.read_parquet(folder / "cells.parquet").set_index("run")
    for run in trained:
        assert table.loc[run.info.run_id, "test_auc"] == pytest.approx(run.data.metrics["test/auc/mean"])
    assert (folder / "accuracy.png").stat().st_size > 10_000

    before = (folder / "claims.json").read_text()
    again = command("study", *STUDY)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("trained before") == 2
    assert (folder / "claims.json").read_text() == before
    collected = run_radflow(workplace, "claims", "--out=claims.md")
    assert collected.returncode == 0, collected.stderr
    assert (workplace / "claims.md").read_text().count("| ensembles, data, ") == 1


@pytest.mark.slow
def test_counting_films_is_a_study_without_trainings(workplace: Path, command: Command) -> None:
    ended = command("study", "--name=frequencies", "--scale=data", "--data=dataset")
    assert ended.returncode == 0, ended.stderr
    assert run_radflow(workplace, "claims").stdout.count("frequencies, data, ") == 17
    planned = run_radflow(
        workplace, "plan", "-e", "study", "-P", "name=threads", "-P", "scale=data", "-P", "data=dataset"
    )
    assert planned.returncode == 0, planned.stderr
    assert "1 thread, BZ 16, bound" in planned.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--name=figure-99"], "figure-99"),
        (["--name=optimizers", "--scale=data"], "needs your films"),
        (["--name=optimizers", "--scale=data", "--data=nowhere"], "nowhere"),
        (["--name=transfer", "--scale=data", "--data=dataset", "--mammograms=dataset"], "Tumour"),
        (["--name=topology", "--scale=data", "--data=dataset", "--imagenet=vgg16=nowhere.weights.h5"], "nowhere"),
        (["--name=large-batch", "--scale=data", "--data=dataset", "--workers=0"], "workers=0"),
        (["--name=threads", "--scale=data", "--data=dataset", "--epochs=-1"], "epochs=-1"),
    ],
)
def test_mistakes(command: Command, flags: list[str], word: str) -> None:
    ended = command("study", *flags)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stderr
    assert word in errors[0]
