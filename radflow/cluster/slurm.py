"""The allocation of Slurm that this process runs in: its nodes, and how many ranks suit each."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import chain, repeat

from radflow.errors import JobError


def allocated_nodes() -> dict[str, int]:
    """Ranks for each node of the allocation by the node's name; {} outside of one, and where it is this node alone.

    These are the tasks that were asked for (--ntasks, --ntasks-per-node), else a node's GPUs that were asked for, else
    as many as suit its cores.

    Raises JobError where Slurm does not name the nodes.
    """
    if int(os.environ.get("SLURM_JOB_NUM_NODES") or 1) == 1:
        return {}
    if {"SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"} & set(os.environ):
        ranks = per_node(os.environ.get("SLURM_TASKS_PER_NODE", ""))
    elif gpus := int(os.environ.get("SLURM_GPUS_ON_NODE") or 0):
        ranks = [gpus] * int(os.environ["SLURM_JOB_NUM_NODES"])
    else:
        ranks = [ranks_for_cores(cores) for cores in per_node(os.environ.get("SLURM_JOB_CPUS_PER_NODE", ""))]
    return dict(zip(_node_names(os.environ.get("SLURM_JOB_NODELIST", "")), ranks, strict=True))


def per_node(text: str) -> list[int]:
    """A number for each node from Slurm's notation: 2(x3),1 is [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return list(chain.from_iterable(repeat(int(number), int(times or 1)) for number, times in found))


def ranks_for_cores(cores: int) -> int:
    """The number of ranks that suits a machine: one a core on up to four cores, and one for each four beyond.

    Several ranks with few threads beat one with many, until memory bandwidth is shared.
    """
    return max(min(cores, 4), cores // 4)


def _node_names(nodes: str) -> list[str]:
    """Names from Slurm's notation, as node[1-3]."""
    line = ["scontrol", "show", "hostnames", nodes]
    try:
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise JobError(f"`{' '.join(line)}` does not name the nodes of the allocation: {error}") from error
