"""What holds for every launcher, and which of them `auto` takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from radflow.cluster.hosts import Host
from radflow.cluster.launchers import process
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import LAUNCHERS, Launch, prepare_launch
from radflow.config import parse
from radflow.errors import UserError
from radflow.training.config import DistributedConfig


def two_ranks(launcher: str, *command: str, **variables: str) -> Launch:
    job = RankJob([sys.executable, *command], 2, [Host("localhost", 2)], threads=1, variables=variables)
    return prepare_launch(launcher, job)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["mpirun", pytest.param("gloo", marks=pytest.mark.long)])
def test_two_ranks_join_and_a_failing_one_fails_the_job(launcher, capfd):
    rank = (
        "import os, horovod.tensorflow as horovod\n"
        "horovod.init()\n"
        "print('rank', horovod.rank(), 'of', horovod.size(), os.environ['MARK'])"
    )
    assert two_ranks(launcher, "-c", rank, MARK="seen").run().code == 0
    output = capfd.readouterr().out
    assert "rank 0 of 2 seen" in output
    assert "rank 1 of 2 seen" in output
    assert two_ranks(launcher, "-c", "raise SystemExit(7)").run().code != 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["mpirun", "gloo"])
def test_no_command_line_shows_a_secret_and_every_rank_has_it(launcher, tmp_path, monkeypatch):
    secrets = {
        "MLFLOW_TRACKING_PASSWORD": "hidden-1",
        "AWS_SECRET_ACCESS_KEY": "hidden-2",
        "MLFLOW_TRACKING_URI": "http://ann:hidden-3@127.0.0.1:9",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    rank = (
        "import os, pathlib, psutil, sys\n"
        "from radflow.cluster.launchers.secrets_file import take_secrets\n"
        "take_secrets()\n"
        "lines = [word for each in psutil.process_iter(['cmdline']) for word in each.info['cmdline'] or []]\n"
        f"seen = [os.environ.get(name) for name in {list(secrets)!r}]\n"
        "rank = os.environ.get('OMPI_COMM_WORLD_RANK') or os.environ['HOROVOD_RANK']\n"
        f"pathlib.Path({str(tmp_path)!r}, rank).write_text(repr((seen, 'hidden' + '-' in ' '.join(lines))))\n"
    )
    program = tmp_path / "rank.py"
    program.write_text(rank)
    assert two_ranks(launcher, str(program), PYTHONPATH=str(Path.cwd())).run().code == 0
    for number in "01":
        assert (tmp_path / number).read_text() == repr((list(secrets.values()), False))


def hide_programs(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Let programs be looked for on PATH alone, where some are not."""
    monkeypatch.setattr(process.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(process.shutil, "which", lambda name: None if name in hidden else f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("hidden", "hosts", "taken"),
    [
        ([], ["localhost"], "2 ranks with mpirun (auto: the first that can start them)"),
        (["horovodrun"], ["node1", "node2"], "2 ranks with mpirun (auto: the first that can start them)"),
        (["mpirun"], ["localhost"], "2 ranks with gloo (auto: mpirun cannot: mpirun is neither beside"),
    ],
)
def test_auto_takes_the_first_that_can_and_says_why(
    monkeypatch: pytest.MonkeyPatch, hidden: Sequence[str], hosts: Sequence[str], taken: str
) -> None:
    hide_programs(monkeypatch, *hidden)
    launch = prepare_launch("auto", RankJob(["rank"], 2, [Host(name, 2) for name in hosts]))
    assert str(launch).startswith(taken)
    assert launch.start.line[0] == f"/usr/bin/{'mpirun' if launch.launcher == 'mpirun' else 'horovodrun'}"


def test_a_launcher_that_is_named_is_taken_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_programs(monkeypatch, "mpirun")
    assert str(two_ranks("gloo", "rank.py")) == "2 ranks with gloo"
    with pytest.raises(UserError, match="mpirun is neither beside"):
        two_ranks("mpirun", "rank.py")
    others = RankJob(["rank"], 2, [Host("node1", 1), Host("node2", 1)])
    with pytest.raises(UserError, match="launcher=gloo starts ranks on this machine only"):
        prepare_launch("gloo", others)
    with pytest.raises(UserError, match=r"mpirun cannot: mpirun is neither.*; gloo cannot: launcher=gloo starts"):
        prepare_launch("auto", others)


def test_the_command_line_takes_and_lists_the_table() -> None:
    for name in ("auto", *LAUNCHERS):
        assert parse(DistributedConfig, [f"--launcher={name}"]).launcher == name
    with pytest.raises(UserError, match=".*".join(("ssh", "auto", *LAUNCHERS))):
        parse(DistributedConfig, ["--launcher=ssh"])


def test_ranks_of_several_hosts_sum_large_gradients_in_a_ring_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    switch, file = "OMPI_MCA_coll_tuned_use_dynamic_rules", "OMPI_MCA_coll_tuned_dynamic_rules_filename"
    monkeypatch.delenv(switch, raising=False)
    several = RankJob(["rank"], 2, [Host("node1", 1), Host("node2", 1)])
    assert several.environment[switch] == "1"
    assert Path(several.environment[file]).read_text().endswith("0 0 0 0\n")
    assert switch not in RankJob(["rank"], 2, [Host("localhost", 2)]).environment
    monkeypatch.setenv(switch, "0")
    assert switch not in several.environment


def test_sums_that_each_layer_waits_for_are_looked_for_often_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOROVOD_CYCLE_TIME", raising=False)
    synchronised = RankJob(["rank"], 2, [Host("localhost", 2)], sums_within_layers=True)
    assert float(synchronised.environment["HOROVOD_CYCLE_TIME"]) < 1  # milliseconds; Horovod's own is 1
    assert "HOROVOD_CYCLE_TIME" not in RankJob(["rank"], 2, [Host("localhost", 2)]).environment
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "5")
    assert "HOROVOD_CYCLE_TIME" not in synchronised.environment  # so that the user's own is passed on
