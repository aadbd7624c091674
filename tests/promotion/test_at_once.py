"""Five promotions that are started at once, as five processes: one champion, and a coherent history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from finished_runs import REPOSITORY, finished_run, write_policy
from mlflow import MlflowClient
from mlflow_server import MlflowServer

from radflow.promotion.lock import LOCK_MODEL

NAME = "radflow-chest-vgg16"
SKILLS = (1.0, 1.2, 1.4, 1.6, 1.8)


def promote_at_once(uri: str, folder: Path, *flags: tuple[str, ...]) -> list[str]:
    """What five promotions print, which must all end well; each has flags of its own."""
    policy = write_policy(folder / "policy.yaml")
    line = [sys.executable, "-m", "entrypoints.promote", f"--policy={policy}"]
    line.append(f"--card={REPOSITORY / 'registry/model_card.md'}")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(
            [*line, *own], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        for own in flags
    ]
    ended = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, [stderr for _, stderr in ended]
    return [stdout for stdout, _ in ended]


@pytest.mark.long
def test_of_the_same_run_one_promotion_wins(store: MlflowClient, tmp_path: Path) -> None:
    run_id = finished_run(store)
    printed = promote_at_once(store.tracking_uri, tmp_path, *[()] * 5)
    assert sum("version 1 is champion" in each for each in printed) == 1
    assert sum("version 1 stays champion" in each for each in printed) == 4
    assert [version.run_id for version in store.search_model_versions(f"name = '{NAME}'")] == [run_id]


@pytest.mark.long
def test_of_different_runs_each_champion_is_better_than_the_one_it_replaced(
    server: MlflowServer, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(server.uri)
    client = MlflowClient(server.uri)
    skill_of = {finished_run(client, skill): skill for skill in SKILLS}
    promote_at_once(server.uri, tmp_path, *[(f"--run={run_id}",) for run_id in skill_of])
    family = client.get_registered_model(NAME)
    history = family.tags["radflow.champions"].split(",")
    assert str(family.aliases["champion"]) == history[-1]
    versions = {str(each.version): each for each in client.search_model_versions(f"name = '{NAME}'")}
    skills = [skill_of[versions[number].run_id] for number in history]
    assert skills == sorted(skills)
    assert skills[-1] == max(SKILLS)
    assert [versions[number].tags["radflow.previous_champion"] for number in history] == ["", *history[:-1]]
    # All others were refused against a champion, and none is registered twice.
    assert len(versions) == len({version.run_id for version in versions.values()}) == len(SKILLS)
    refused = [each for number, each in versions.items() if number not in history]
    assert all(version.tags["radflow.decision"] == "refused" for version in refused)
    assert client.search_model_versions(f"name = '{LOCK_MODEL}'") == []
