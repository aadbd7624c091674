from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.cluster.batch_plan import plan_batches
from radflow.cluster.launcher import (
    RANK_VARIABLES,
    Host,
    check_allocation,
    check_scheduler,
    choose_ranks,
    is_rank,
    launch,
    parse_hosts,
    ranks_on_this_node,
    unused_slots_warning,
)
from radflow.cpu import available_cores, is_pinned
from radflow.errors import UserError


def test_hosts_are_names_with_slots():
    assert parse_hosts("node1:2, node2") == [Host("node1", 2), Host("node2", 1)]
    (here,) = parse_hosts("")
    assert here.name == "localhost"


@pytest.mark.parametrize("hosts", ["node1:two", ":2", "node1:0", "node1,,node2"])
def test_a_wrong_host_list_is_named(hosts):
    with pytest.raises(UserError, match="name:slots"):
        parse_hosts(hosts)


def test_ranks_fill_the_slots_of_named_hosts_and_suit_the_cores_of_one_machine():
    assert choose_ranks("auto", [Host("node1", 2), Host("node2", 2)], 64) == 4
    assert choose_ranks("auto", [Host("localhost", 2)], 64) == 2
    assert choose_ranks("auto", [Host("localhost", 40)], 640) == 10
    assert choose_ranks(3, [Host("localhost", 4)], 48) == 3


def test_two_hosts_are_used_where_a_smaller_local_batch_divides():
    """448 is no multiple of 2 x 64, and of 2 x 56 it is."""
    hosts = [Host("a", 1), Host("b", 1)]
    assert choose_ranks("auto", hosts, 448) == 2
    assert unused_slots_warning(2, hosts, 448) == ""


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 9000), st.integers(1, 130))
def test_no_slot_is_idle_unless_nothing_divides(slots, global_batch, largest_local_batch):
    hosts = [Host(f"node{number}", count) for number, count in enumerate(slots)]
    ranks = choose_ranks("auto", hosts, global_batch)
    plan = plan_batches(global_batch, largest_local_batch, ranks, films=10_000)
    assert ranks * plan.local_batch * plan.micro_steps == global_batch
    assert 1 <= plan.local_batch <= largest_local_batch
    share = global_batch // ranks
    assert not any(share % size == 0 for size in range(plan.local_batch + 1, min(share, largest_local_batch) + 1))
    assert not any(global_batch % more == 0 for more in range(ranks + 1, sum(slots) + 1))
    warning = unused_slots_warning(ranks, hosts, global_batch)
    assert bool(warning) == (ranks < sum(slots))
    if warning:
        nearest = [int(value) for value in warning.rpartition("gbz=")[2].replace(" uses all", "").split(" or ")]
        assert all(choose_ranks("auto", hosts, value) == sum(slots) for value in nearest)
        assert min(abs(value - global_batch) for value in nearest) < sum(slots)


@pytest.mark.parametrize("ranks", [5, 0, -1])
def test_more_ranks_than_slots_or_none_is_a_mistake(ranks):
    with pytest.raises(UserError, match=f"np={ranks}"):
        choose_ranks(ranks, [Host("node1", 2), Host("node2", 2)], 64)


def test_on_one_machine_the_mend_is_to_share_cores():
    with pytest.raises(UserError, match="hosts=localhost:4"):
        choose_ranks(4, [Host("localhost", 2)], 64)
    assert choose_ranks(4, [Host("localhost", 4)], 64) == 4


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["mpirun", pytest.param("gloo", marks=pytest.mark.long)])
def test_two_ranks_join_and_a_failing_one_fails_the_job(launcher, capfd):
    rank = (
        "import os, horovod.tensorflow as horovod\n"
        "horovod.init()\n"
        "print('rank', horovod.rank(), 'of', horovod.size(), os.environ['MARK'])"
    )
    assert launch([sys.executable, "-c", rank], 2, [Host("localhost", 2)], 1, launcher, {"MARK": "seen"}) == 0
    output = capfd.readouterr().out
    assert "rank 0 of 2 seen" in output
    assert "rank 1 of 2 seen" in output
    assert launch([sys.executable, "-c", "raise SystemExit(7)"], 2, [Host("localhost", 2)], 1, launcher, {}) != 0


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2 or is_pinned(), reason="needs several cores to itself")
def test_ranks_are_bound_to_cores_of_their_own_where_they_fill_the_machine_and_else_not(capfd):
    """Two jobs that each take a part of the machine would both be bound to its first cores."""
    rank = "import os; print('cores', sorted(os.sched_getaffinity(0)))"
    cores = available_cores()
    assert launch([sys.executable, "-c", rank], 1, [Host("localhost", cores)], 1, "mpirun", {}) == 0
    (alone,) = re.findall(r"cores \[(.*)\]", capfd.readouterr().out)
    assert len(alone.split(",")) == cores
    assert launch([sys.executable, "-c", rank], cores, [Host("localhost", cores)], 1, "mpirun", {}) == 0
    bound = re.findall(r"cores \[(.*)\]", capfd.readouterr().out)
    assert sorted(map(int, bound)) == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(("node", "ranks"), [("0", 2), ("2", 2), ("3", 1), ("7", 1)])
def test_ranks_of_a_node_in_slurms_notation(monkeypatch, node, ranks):
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "HOROVOD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x3),1")
    monkeypatch.setenv("SLURM_NODEID", node)
    assert ranks_on_this_node() == ranks


def test_tasks_of_srun_that_are_no_ranks_are_told_so(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(UserError, match="srun --mpi=pmix"):
        check_scheduler()
    monkeypatch.setenv("PMIX_RANK", "3")
    check_scheduler()


def test_several_nodes_of_slurm_are_not_left_idle_in_silence(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    with pytest.raises(UserError, match="has 4 nodes"):
        check_allocation("")
    check_allocation("n1:2,n2:2")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    check_allocation("")


def test_what_is_typed_in_an_interactive_shell_of_srun_is_no_rank(monkeypatch):
    for variable in RANK_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PMIX_RANK", "0")
    assert is_rank()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not is_rank()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert is_rank()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_rank_once_and_ends_the_launcher(number, tmp_path):
    rank = (
        "import os, pathlib, signal, sys, time\n"
        "def mark(event):\n"
        f"    pathlib.Path({str(tmp_path)!r}, event + '-' + os.environ['OMPI_COMM_WORLD_RANK']).touch()\n"
        "def end(number, frame):\n"
        "    time.sleep(3)\n"  # longer than mpirun grants after SIGTERM
        "    mark('ended')\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGUSR1, end)\n"
        "mark('started')\n"
        "time.sleep(60)\n"
    )
    launching = (
        "import sys; from radflow.cluster.launcher import *; from radflow.config import exit_code_of\n"
        f"command = [sys.executable, '-c', {rank!r}]\n"
        "sys.exit(exit_code_of(lambda: launch(command, 2, [Host('localhost', 2)], 1, 'mpirun', {})))"
    )
    process = subprocess.Popen([sys.executable, "-c", launching])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("started-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    for _ in range(3):  # as MLflow answers Ctrl-C, or an impatient user
        process.send_signal(number)
        time.sleep(0.25)
    assert process.wait(timeout=60) == 128 + number
    assert {path.name for path in tmp_path.glob("ended-*")} == {"ended-0", "ended-1"}


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
        "from radflow.cluster.launcher import take_secrets\n"
        "take_secrets()\n"
        "lines = [word for each in psutil.process_iter(['cmdline']) for word in each.info['cmdline'] or []]\n"
        f"seen = [os.environ.get(name) for name in {list(secrets)!r}]\n"
        "rank = os.environ.get('OMPI_COMM_WORLD_RANK') or os.environ['HOROVOD_RANK']\n"
        f"pathlib.Path({str(tmp_path)!r}, rank).write_text(repr((seen, 'hidden' + '-' in ' '.join(lines))))\n"
    )
    program = tmp_path / "rank.py"
    program.write_text(rank)
    command = [sys.executable, str(program)]
    assert launch(command, 2, [Host("localhost", 2)], 1, launcher, {"PYTHONPATH": str(Path.cwd())}) == 0
    for number in "01":
        assert (tmp_path / number).read_text() == repr((list(secrets.values()), False))
