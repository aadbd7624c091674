"""The machines that ranks run on, and how many ranks suit them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radflow.cluster.batch_plan import nearest_global_batches
from radflow.cluster.slurm import allocated_nodes, ranks_for_cores
from radflow.cpu import available_cores
from radflow.errors import UserError
from radflow.gpu import usable_gpus

ANSWER_SECONDS = 15
_SLOTS = r"(?::|\s+slots\s*=\s*)(?P<slots>[1-9]\d*)"
_HOST_LINE = re.compile(rf"(?P<name>[^\s:=]+)(?:{_SLOTS})?(?:\s+max[-_]slots\s*=\s*\d+)?")
NAMED = 8
"""Most hosts that a description names; the rest is counted."""


@dataclass(frozen=True)
class Host:
    """A machine and how many ranks may run on it."""

    name: str
    slots: int


def parse_hosts(hosts: str) -> list[Host]:
    """Read `host1:2,host2:2`, or the file of this path with a host a line, as mpirun takes it: `host1 slots=2`.

    An empty text means the nodes of a Slurm allocation, or this machine, whose slots are its GPUs, or its cores where
    it has none.

    Raises UserError for anything else.
    """
    if not hosts:
        nodes = [Host(name, slots) for name, slots in allocated_nodes().items()]
        return nodes or [Host("localhost", len(usable_gpus()) or available_cores())]
    if "/" in hosts:
        return _read_hostfile(Path(hosts))
    parsed = []
    for part in hosts.split(","):
        name, _, slots = part.strip().partition(":")
        if not name or not (slots or "1").isdecimal() or int(slots or "1") < 1:
            raise UserError(f"hosts={hosts!r}: {part!r} is not `name:slots`; give for example hosts=node1:2,node2:2")
        parsed.append(Host(name, int(slots or "1")))
    return parsed


def _read_hostfile(path: Path) -> list[Host]:
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"hosts={path} is no file of hosts: {error}") from error
    parsed = []
    for line in filter(None, lines):
        found = _HOST_LINE.fullmatch(line)
        if not found:
            raise UserError(f"hosts={path}: {line!r} is not `name slots=number`")
        parsed.append(Host(found["name"], int(found["slots"] or 1)))
    if not parsed:
        raise UserError(f"hosts={path} names no hosts")
    return parsed


def answers(host: Host, ssh_agent: str) -> bool:
    """Whether a command can be run on a host by ssh, or by what is used in its stead."""
    line = [*shlex.split(ssh_agent or "ssh -o BatchMode=yes"), host.name, "true"]
    try:
        return subprocess.run(line, capture_output=True, check=False, timeout=ANSWER_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def is_local(hosts: Sequence[Host]) -> bool:
    """Whether all ranks run on this machine."""
    return all(host.name == "localhost" for host in hosts)


def describe_hosts(hosts: Sequence[Host], ranks: int) -> str:
    """Which hosts so many ranks run on, in words."""
    counted = f"{ranks} {'rank' if ranks == 1 else 'ranks'}"
    if is_local(hosts):
        return f"this machine, {counted}"
    named = ", ".join(f"{host.name}:{host.slots}" for host in hosts[:NAMED])
    more = f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else ""
    return f"{named}{more}, {counted}"


def most_ranks(hosts: Sequence[Host]) -> int:
    """The number of ranks that suits the hosts: every slot of named ones; of this machine, its GPUs or by its cores."""
    slots = sum(host.slots for host in hosts)
    return ranks_for_cores(slots) if is_local(hosts) and not usable_gpus() else slots


def choose_ranks(ranks: int | str, hosts: Sequence[Host], global_batch: int) -> int:
    """The number of ranks: what the user gave, if there are slots for it, or `auto`.

    `auto` is as many as suit the hosts, or fewer where the global batch is not divisible by so many.
    """
    if ranks == "auto":
        return next(count for count in range(most_ranks(hosts), 0, -1) if global_batch % count == 0)
    if int(ranks) < 1:
        raise UserError(f"np={ranks} must be `auto` or at least 1")
    slots = sum(host.slots for host in hosts)
    if int(ranks) > slots:
        listed = ", ".join(f"{host.name}:{host.slots}" for host in hosts)
        raise UserError(f"np={ranks} ranks need as many slots, but {listed} has {slots}; {_fix_of_slots(ranks, hosts)}")
    return int(ranks)


def _fix_of_slots(ranks: int | str, hosts: Sequence[Host]) -> str:
    if not is_local(hosts):
        return "lower np, or name more hosts"
    if usable_gpus():
        return "lower np to a rank a GPU, or name more hosts"
    return f"lower np, or let ranks share cores by hosts=localhost:{ranks}"


def unused_slots_warning(ranks: int, hosts: Sequence[Host], global_batch: int) -> str:
    """What `np=auto` has left idle because the global batch does not divide, and the fix; '' where nothing."""
    most = most_ranks(hosts)
    if ranks == most:
        return ""
    nearest = " or ".join(map(str, nearest_global_batches(global_batch, most)))
    return f"gbz={global_batch} is not divisible by {most} ranks, so only {ranks} are used; gbz={nearest} uses all"
