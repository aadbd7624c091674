"""What all ranks must have alike, compared before the first step.

Ranks with datasets of different lengths wait for each other without end; with equal lengths they train on different
films, and their weights stay equal all the same.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radflow.cluster.communicator import Communicator, allgather_json
from radflow.cluster.reports import this_host
from radflow.errors import UserError
from radflow.terminal import warn

HOSTS_NAMED = 4
"""Most hosts with the same value that are named; the rest is counted."""
LARGEST_SKEW = 5.0
"""Seconds by which clocks may differ without a warning."""


@dataclass(frozen=True)
class Agreement:
    """Values that must be the same on all ranks."""

    what: str
    """Name in the plural, for the message."""
    values: Mapping[str, object]
    """Values by name; the same names on all ranks."""
    fix: str
    """What to do where they differ."""


@dataclass(frozen=True)
class RankValues:
    """What one rank has."""

    host: str
    values: Mapping[str, str]


def check_agreement(communicator: Communicator, agreement: Agreement) -> None:
    """Raise UserError on all ranks, told once, that names the hosts which differ; to be called by all ranks."""
    ranks = _gather(communicator, {name: str(value) for name, value in agreement.values.items()})
    communicator.raise_together(lambda: _refuse_difference(agreement, ranks))


def check_clocks(communicator: Communicator) -> None:
    """Warn of hosts whose clock differs from the first rank's; to be called by all ranks."""
    communicator.allgather(np.zeros(1))  # so that all read their clocks at about the same time
    ranks = _gather(communicator, {"clock": str(time.time())})
    if difference := describe_clocks(ranks):
        communicator.on_first_rank(lambda: warn(difference))


def _gather(communicator: Communicator, values: dict[str, str]) -> list[RankValues]:
    return [RankValues(**each) for each in allgather_json(communicator, {"host": this_host(), "values": values})]


def describe_clocks(ranks: Sequence[RankValues]) -> str:
    """The host whose clock is farthest from the first rank's, if that is too far; '' else."""
    skews = [float(each.values["clock"]) - float(ranks[0].values["clock"]) for each in ranks]
    farthest = max(range(len(ranks)), key=lambda rank: abs(skews[rank]))
    skew = skews[farthest]
    if abs(skew) < LARGEST_SKEW:
        return ""
    others = len({each.host for each, own in zip(ranks, skews, strict=True) if abs(own) >= LARGEST_SKEW}) - 1
    return (
        f"the clock of {ranks[farthest].host} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of "
        f"{ranks[0].host}{f', and those of {others} more hosts differ' if others else ''}; let NTP set them: S3 "
        "refuses what is minutes old, and times in logs cannot be compared"
    )


def _refuse_difference(agreement: Agreement, ranks: Sequence[RankValues]) -> None:
    if difference := describe_difference(ranks):
        raise UserError(f"ranks have different {agreement.what}: {difference}; {agreement.fix}")


def describe_difference(ranks: Sequence[RankValues]) -> str:
    """The first value in which ranks differ, with the hosts that have each, the fewest first; '' where none does."""
    for name in dict.fromkeys(name for each in ranks for name in each.values):
        having: dict[str, list[int]] = defaultdict(list)
        for rank, each in enumerate(ranks):
            having[each.values.get(name, "nothing")].append(rank)
        if len(having) > 1:
            groups = sorted(having.items(), key=lambda group: len(group[1]))
            return ", ".join(f"{name}={value} on {_hosts(ranks, members)}" for value, members in groups)
    return ""


def _hosts(ranks: Sequence[RankValues], members: Sequence[int]) -> str:
    """`node1 (ranks 0, 1), node2 (rank 2)`."""
    of_host: dict[str, list[int]] = defaultdict(list)
    for rank in members:
        of_host[ranks[rank].host].append(rank)
    named = [
        f"{host} ({'rank' if len(own) == 1 else 'ranks'} {', '.join(map(str, own))})" for host, own in of_host.items()
    ]
    more = len(named) - HOSTS_NAMED
    return " and ".join([", ".join(named[:HOSTS_NAMED]), *([f"{more} more hosts"] if more > 0 else [])])
