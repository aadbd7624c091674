"""What an allocation of Slurm says of its nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radflow.cluster.hosts import Host, most_ranks, parse_hosts
from radflow.cluster.slurm import allocated_nodes, per_node
from radflow.errors import JobError


@pytest.fixture
def allocation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Three nodes, as `salloc --nodes=3` sets the environment."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\ntest "$*" = "show hostnames node[1-3]" && printf "node1\\nnode2\\nnode3\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-3]")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "64(x2),2")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "1(x3)")
    return monkeypatch


def test_every_node_of_an_allocation_is_used_by_the_ranks_that_suit_its_cores(allocation: pytest.MonkeyPatch) -> None:
    del allocation
    hosts = parse_hosts("")
    assert hosts == [Host("node1", 16), Host("node2", 16), Host("node3", 2)]
    assert most_ranks(hosts) == 34


def test_tasks_that_were_asked_for_are_the_ranks(allocation: pytest.MonkeyPatch) -> None:
    allocation.setenv("SLURM_NTASKS", "5")
    allocation.setenv("SLURM_TASKS_PER_NODE", "2(x2),1")
    assert allocated_nodes() == {"node1": 2, "node2": 2, "node3": 1}


def test_each_gpu_of_an_allocation_is_a_rank(allocation: pytest.MonkeyPatch) -> None:
    allocation.setenv("SLURM_GPUS_ON_NODE", "4")
    assert allocated_nodes() == {"node1": 4, "node2": 4, "node3": 4}


def test_hosts_that_are_given_come_first_and_one_node_is_this_machine(allocation: pytest.MonkeyPatch) -> None:
    assert parse_hosts("node2:4") == [Host("node2", 4)]
    allocation.setenv("SLURM_JOB_NUM_NODES", "1")
    assert [host.name for host in parse_hosts("")] == ["localhost"]
    allocation.delenv("SLURM_JOB_NUM_NODES")
    assert allocated_nodes() == {}


def test_nodes_without_names_are_a_failure_and_no_training_on_one_of_them(allocation: pytest.MonkeyPatch) -> None:
    allocation.setenv("SLURM_JOB_NODELIST", "other[1-3]")
    with pytest.raises(JobError, match=r"`scontrol show hostnames other\[1-3\]` does not name the nodes"):
        parse_hosts("")


@pytest.mark.parametrize(
    ("text", "numbers"), [("2(x3),1", [2, 2, 2, 1]), ("16", [16]), ("1(x2),4,8(x2)", [1, 1, 4, 8, 8]), ("", [])]
)
def test_slurms_notation_of_a_number_for_each_node(text: str, numbers: list[int]) -> None:
    assert per_node(text) == numbers
