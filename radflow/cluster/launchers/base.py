"""The contract of a launcher: a function that says how it would start a job, or why it cannot."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from radflow.cluster.hosts import Host, is_local
from radflow.cluster.launchers.started_ranks import LAUNCHED_VARIABLE
from radflow.cluster.threads import choose_threads, thread_environment
from radflow.cpu import available_cores
from radflow.errors import UserError
from radflow.terminal import is_watched

# Of several hosts, Open MPI sums large gradients by algorithms that send them more often than a ring does: over four
# hosts with 100 Mbit/s each, 16 MiB in 3.4 s and in 2.2 s (docs/clusters.md).
RING = {
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
    "OMPI_MCA_coll_tuned_dynamic_rules_filename": str(Path(__file__).with_name("allreduce_rules.conf")),
}
# Horovod looks for new sums once a millisecond. Where a step waits for two in each layer, one after the other, that
# makes hundreds of pauses; elsewhere ranks that look more often take time from those that compute.
PROMPT_SUMS = {"HOROVOD_CYCLE_TIME": "0.1"}


@dataclass(frozen=True)
class RankJob:
    """What to start as ranks, how many of them, and where."""

    command: Sequence[str]
    ranks: int
    hosts: Sequence[Host]
    threads: int = 0
    """Threads of a rank; 0 is an equal share of its node's cores."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment of the ranks beside that of this process."""
    stall_seconds: float = 0.0
    """How long a rank may do without progress, if ranks report theirs; 0 lets the job run as long as it likes."""
    ssh_agent: str = ""
    """Command that starts a program on another host, whose name is its first argument; '' is ssh."""
    interface: str = ""
    """Network interfaces, or addresses as 10.0.0.0/24, by which hosts reach each other; '' is all."""
    sums_within_layers: bool = False
    """Whether layers sum over the ranks, as synchronised normalisation does, and not the gradients alone."""

    @property
    def rank_threads(self) -> int:
        """Threads of a rank where all hosts are like this machine."""
        ranks_on_node = min(self.ranks, max(host.slots for host in self.hosts))
        return choose_threads(self.threads, available_cores(), ranks_on_node)

    @property
    def environment(self) -> dict[str, str]:
        """What ranks must have in their environment on every host."""
        told = {**self.variables, LAUNCHED_VARIABLE: "1", "RADFLOW_PROGRESS": str(int(is_watched()))}
        advice = {**({} if is_local(self.hosts) else RING), **(PROMPT_SUMS if self.sums_within_layers else {})}
        told |= {name: value for name, value in advice.items() if name not in os.environ}
        if self.threads or is_local(self.hosts):
            return told | thread_environment(self.rank_threads)
        return told  # each rank shares out its own node's cores


@dataclass(frozen=True)
class Start:
    """How a launcher starts the ranks of a job."""

    line: Sequence[str]
    """Command line of the launcher, which the command of a rank follows."""
    stop_signal: signal.Signals
    """Signal on which the launcher lets the ranks end in their own time."""
    shows_environment: bool = False
    """Whether it writes the environment on command lines, which all users of a machine can read."""


class NotForThisJobError(UserError):
    """A launcher was asked for a job of a kind that is not its own, which `auto` passes over without a word."""


Launcher = Callable[[RankJob], Start]
"""Raises UserError, saying why, where it cannot start the job."""
