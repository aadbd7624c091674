"""Starts the ranks of a job with Open MPI's mpirun or Horovod's Gloo launcher, and passes signals on to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from radflow.cluster.batch_plan import nearest_global_batches
from radflow.cluster.threads import choose_threads, thread_environment
from radflow.cpu import available_cores, is_pinned
from radflow.errors import Interrupted, UserError, signals_to_stop
from radflow.files import check_temporary_folder
from radflow.processes import ends_with_parent
from radflow.secrets import holds_secret
from radflow.terminal import is_watched

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "HOROVOD_RANK")
"""Any of these in the environment says that this process was started as one of several ranks."""

SECRETS_VARIABLE = "RADFLOW_SECRETS_FILE"
"""Variable of a rank's environment: the file that holds the rest of it."""
LAUNCHED_VARIABLE = "RADFLOW_LAUNCHED"
"""Variable of the environment of ranks that `launch` has started."""

PASSED_ON = ("MLFLOW_", "RADFLOW_", "AWS_", "HOROVOD_")
"""Beginnings of the names of settings that ranks on other machines need too."""
TEMPORARY_BYTES = 4 * 2**20
"""Room that Open MPI has to find in TMPDIR: it maps files there, and dies by SIGBUS where they cannot be filled."""
STOP_SECONDS = 25.0
"""What ranks have to end in once they are told to stop; Slurm kills after 30 s."""


@dataclass(frozen=True)
class Host:
    """A machine and how many ranks may run on it."""

    name: str
    slots: int


def is_rank() -> bool:
    """Whether this process is a rank already, started by mpirun, srun, an MPIJob or Horovod's launcher.

    The shell of `srun --pty bash` is the only task of its step, and what is typed there is no rank, although it
    inherits PMIX_RANK.
    """
    found = {variable for variable in RANK_VARIABLES if variable in os.environ}
    is_only_task = os.environ.get("SLURM_STEP_NUM_TASKS") == "1"
    return bool(found) and not (is_only_task and found == {"PMIX_RANK"})


def was_launched() -> bool:
    """Whether `launch` has started this rank, and not a scheduler."""
    return LAUNCHED_VARIABLE in os.environ


def ranks_on_this_node() -> int:
    """How many ranks the scheduler has put on this machine; 1 where it does not say."""
    for variable in ("OMPI_COMM_WORLD_LOCAL_SIZE", "HOROVOD_LOCAL_SIZE"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    tasks = _slurm_tasks_per_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = int(os.environ.get("SLURM_NODEID", "0"))
    return tasks[node] if node < len(tasks) else 1


def check_scheduler() -> None:
    """Raise UserError in a task of srun that was not told that it is a rank: each task would start a job of its own."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if not is_rank() and tasks.isdecimal() and int(tasks) > 1:
        raise UserError(
            f"srun started {tasks} tasks that do not know each other; start them with `srun --mpi=pmix`, "
            "or start one task and let it launch the ranks"
        )


def check_allocation(hosts: str) -> None:
    """Raise UserError in a Slurm allocation of several nodes where no hosts are named: one node would do all."""
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if not hosts and nodes.isdecimal() and int(nodes) > 1:
        raise UserError(
            f"this allocation of Slurm has {nodes} nodes, and hosts names none, so that all ranks would start on this "
            "one; give hosts=NODE:2,NODE:2 (`scontrol show hostnames` lists them), or start the ranks with "
            "`srun --mpi=pmix python -m radflow distributed`"
        )


def _slurm_tasks_per_node(text: str) -> list[int]:
    """Tasks on each node from Slurm's notation: 2(x3),1 is [2, 2, 2, 1]."""
    counts = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(times or 1)
    return counts


def parse_hosts(hosts: str) -> list[Host]:
    """Read `host1:2,host2:2`; an empty text means this machine with one slot a core.

    Raises UserError for anything else.
    """
    if not hosts:
        return [Host("localhost", available_cores())]
    parsed = []
    for part in hosts.split(","):
        name, _, slots = part.strip().partition(":")
        if not name or not (slots or "1").isdecimal() or int(slots or "1") < 1:
            raise UserError(f"hosts={hosts!r}: {part!r} is not `name:slots`; give for example hosts=node1:2,node2:2")
        parsed.append(Host(name, int(slots or "1")))
    return parsed


def most_ranks(hosts: Sequence[Host]) -> int:
    """The number of ranks that suits the hosts: every slot of named ones.

    On one machine it is one rank a core on up to four cores, and one for each four cores beyond: several ranks with few
    threads beat one with many, until memory bandwidth is shared.
    """
    slots = sum(host.slots for host in hosts)
    return max(min(slots, 4), slots // 4) if _is_local(hosts) else slots


def choose_ranks(ranks: int | str, hosts: Sequence[Host], global_batch: int) -> int:
    """The number of ranks: what the user gave, if there are slots for it, or `auto`.

    `auto` is as many as suit the hosts, or fewer where the global batch does not divide by so many.
    """
    if ranks == "auto":
        return next(count for count in range(most_ranks(hosts), 0, -1) if global_batch % count == 0)
    if int(ranks) < 1:
        raise UserError(f"np={ranks} must be `auto` or at least 1")
    slots = sum(host.slots for host in hosts)
    if int(ranks) > slots:
        listed = ", ".join(f"{host.name}:{host.slots}" for host in hosts)
        mend = f"let ranks share cores by hosts=localhost:{ranks}" if _is_local(hosts) else "name more hosts"
        raise UserError(f"np={ranks} ranks need as many slots, but {listed} has {slots}; lower np, or {mend}")
    return int(ranks)


def unused_slots_warning(ranks: int, hosts: Sequence[Host], global_batch: int) -> str:
    """What `np=auto` has left idle because the global batch does not divide, and the fix; '' where nothing."""
    most = most_ranks(hosts)
    if ranks == most:
        return ""
    nearest = " or ".join(map(str, nearest_global_batches(global_batch, most)))
    return f"gbz={global_batch} does not divide by {most} ranks, so only {ranks} are used; gbz={nearest} uses all"


def launch(
    command: Sequence[str],
    ranks: int,
    hosts: Sequence[Host],
    threads: int,
    launcher: str,
    variables: Mapping[str, str],
) -> int:
    """Run `command` as `ranks` ranks, with `variables` in their environment, and return the job's exit code.

    Raises
    ------
    UserError
        The launcher's program is not installed, or TMPDIR is full.
    Interrupted
        This process was told to stop by a signal; the ranks were too, and have ended.
    """
    check_temporary_folder(TEMPORARY_BYTES)
    ranks_on_node = min(ranks, max(host.slots for host in hosts))
    rank_threads = choose_threads(threads, available_cores(), ranks_on_node)
    environment = {**variables, LAUNCHED_VARIABLE: "1", "RADFLOW_PROGRESS": str(int(is_watched()))}
    if threads or _is_local(hosts):
        environment |= thread_environment(rank_threads)  # elsewhere each rank shares out its own node's cores
    build, stop_signal = {
        # On SIGTERM mpirun kills the ranks within a second, too soon for a checkpoint; SIGUSR1 it hands on to them.
        "mpirun": (_mpirun_line, signal.SIGUSR1),
        "gloo": (_gloo_line, signal.SIGTERM),
    }[launcher]
    line = build(ranks, hosts, rank_threads, environment)
    # What a scheduler has told this process as the only task of a step is not true of its ranks.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PMIX_", "PMI_"))}
    everything = {**own, **environment}
    if launcher != "gloo":
        return _run_until_stopped([*line, *command], everything, stop_signal)
    # Horovod's launcher writes the whole environment on the command line of each rank, where all users can read it.
    with _secrets_in_file(everything) as harmless:
        return _run_until_stopped([*line, *command], harmless, stop_signal)


@contextmanager
def _secrets_in_file(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment without its secrets, which are in a file that only this user can read while the block lasts."""
    secrets = {name: value for name, value in environment.items() if holds_secret(name, value)}
    with tempfile.NamedTemporaryFile("w", prefix="radflow-", suffix=".json", encoding="utf-8") as file:
        json.dump(secrets, file)
        file.flush()
        harmless = {name: value for name, value in environment.items() if name not in secrets}
        yield {**harmless, SECRETS_VARIABLE: file.name}


def take_secrets() -> None:
    """Put the secrets that `launch` has left in a file for this rank into its environment."""
    path = os.environ.pop(SECRETS_VARIABLE, None)
    if path:
        os.environ.update(json.loads(Path(path).read_text(encoding="utf-8")))


def _is_local(hosts: Sequence[Host]) -> bool:
    return all(host.name == "localhost" for host in hosts)


def _mpirun_line(ranks: int, hosts: Sequence[Host], threads: int, environment: Mapping[str, str]) -> list[str]:
    line = [_program("mpirun"), "-np", str(ranks)]
    # Horovod's background thread polls MPI: without yielding it takes the cores that the ranks compute on.
    line += ["--mca", "mpi_yield_when_idle", "1"]
    named = ",".join(f"{host.name}:{host.slots}" for host in hosts)
    line += ["--host", named]
    if ranks * threads == available_cores() and _is_local(hosts) and not is_pinned():
        # Hardware threads, because that is what `available_cores` counts; other machines' cores are not known here.
        # mpirun counts from the machine's first core on, whatever else runs there: two jobs that each take some of the
        # cores, or are pinned to some, would be bound to the same ones.
        line += ["--map-by", f"slot:PE={threads}:HWTCPUS", "--bind-to", "hwthread"]
    else:
        line += ["--bind-to", "none"]
    exported = [*environment, *(name for name in os.environ if name.startswith(PASSED_ON))]
    for name in sorted({*exported, "PATH", "PYTHONPATH"} & {*environment, *os.environ}):
        line += ["-x", name]
    return line


def _gloo_line(ranks: int, hosts: Sequence[Host], threads: int, environment: Mapping[str, str]) -> list[str]:  # noqa: ARG001
    if not _is_local(hosts):
        raise UserError("launcher=gloo starts ranks on this machine only; use launcher=mpirun with hosts")
    return [_program("horovodrun"), "--gloo", "-np", str(ranks), "-H", f"localhost:{ranks}"]


def _program(name: str) -> str:
    """Path of a program of this Python's environment, or of PATH."""
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if not found:
        raise UserError(
            f"{name} is neither beside {sys.executable} nor on PATH; run `make setup`, or see `radflow doctor`"
        )
    return found


def _run_until_stopped(line: Sequence[str], environment: Mapping[str, str], stop_signal: signal.Signals) -> int:
    """Run a command in a process group of its own, and when this process is told to stop, tell it by `stop_signal`.

    Ranks must hear of it from one side only: a Ctrl-C of the terminal would reach them, mpirun and us at once. They
    have some seconds to write a checkpoint, however often this process is told; after these the command is ended by
    SIGTERM.
    """
    if os.geteuid() == 0:
        # Containers run as root; Open MPI refuses that unless told twice, here and on remote nodes.
        twice = ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM")
        environment = {**environment, **{f"{owner}_{name}": "1" for owner in ("OMPI", "PRTE") for name in twice}}
    received: list[int] = []
    process = subprocess.Popen(line, env=dict(environment), start_new_session=True, preexec_fn=ends_with_parent())
    deadline = threading.Timer(STOP_SECONDS, process.terminate)
    deadline.daemon = True

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not received:
            process.send_signal(stop_signal)
            deadline.start()
        received.append(number)

    previous = {number: signal.signal(number, stop) for number in signals_to_stop()}
    try:
        code = process.wait()
    finally:
        deadline.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise Interrupted(received[0])
    return code
