from __future__ import annotations

import pytest

from radflow.cluster.launchers.started_ranks import (
    RANK_VARIABLES,
    check_scheduler,
    is_rank,
    ranks_on_this_node,
)
from radflow.errors import UserError


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


def test_what_is_typed_in_an_interactive_shell_of_srun_is_no_rank(monkeypatch):
    for variable in RANK_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PMIX_RANK", "0")
    assert is_rank()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not is_rank()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert is_rank()
