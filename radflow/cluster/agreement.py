"""What all ranks must have alike, compared before the first step.

Ranks with datasets of different lengths wait for each other without end; with equal lengths they train on different
films, and their weights stay equal all the same.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radflow.cluster.communicator import Communicator
from radflow.errors import UserError

HOSTS_NAMED = 4
"""Most hosts with the same value that are named; the rest is counted."""


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
    own = {name: str(value) for name, value in agreement.values.items()}
    text = json.dumps({"host": platform.node(), "values": own}) + "\n"
    everyone = communicator.allgather(np.frombuffer(text.encode(), np.uint8)).tobytes().decode()
    ranks = [RankValues(**json.loads(line)) for line in everyone.splitlines()]
    communicator.raise_together(lambda: _refuse_difference(agreement, ranks))


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
