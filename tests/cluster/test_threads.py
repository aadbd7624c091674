from __future__ import annotations

import os
import subprocess
import sys

import pytest

from radflow.cluster.threads import choose_threads, thread_environment
from radflow.cpu import available_cores
from radflow.errors import UserError


def test_ranks_share_the_cores():
    assert choose_threads(0, cores=40, ranks_on_node=2) == 20  # the paper's nodes
    assert choose_threads(0, cores=2, ranks_on_node=4) == 1
    assert choose_threads(3, cores=2, ranks_on_node=1) == 3
    with pytest.raises(UserError, match="threads=-1"):
        choose_threads(-1, cores=2, ranks_on_node=1)


def test_who_turns_onednn_off_has_it_off_in_every_rank(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert thread_environment(1)["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert thread_environment(1)["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_cores_are_those_of_the_affinity_and_not_of_the_machine():
    """A process bound to one core, as under mpirun, counts one."""
    code = "from radflow.cpu import available_cores; print(available_cores())"
    first = min(os.sched_getaffinity(0))
    bound = subprocess.run(["taskset", "-c", str(first), sys.executable, "-c", code], capture_output=True, text=True)
    assert bound.stdout.strip() == "1"
    assert available_cores() <= len(os.sched_getaffinity(0))
