from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from radflow.cluster.hosts import Host
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch
from radflow.cpu import available_cores, is_pinned

pytestmark = pytest.mark.slow


@pytest.mark.skipif(available_cores() < 2 or is_pinned(), reason="needs several cores to itself")
def test_ranks_are_bound_to_cores_of_their_own_where_they_fill_the_machine_and_else_not(capfd):
    """Two jobs that each take a part of the machine would both be bound to its first cores."""
    rank = "import os; print('cores', sorted(os.sched_getaffinity(0)))"
    cores = available_cores()
    here, line = [Host("localhost", cores)], [sys.executable, "-c", rank]
    assert prepare_launch("mpirun", RankJob(line, 1, here, threads=1)).run().code == 0
    (alone,) = re.findall(r"cores \[(.*)\]", capfd.readouterr().out)
    assert len(alone.split(",")) == cores
    assert prepare_launch("mpirun", RankJob(line, cores, here, threads=1)).run().code == 0
    bound = re.findall(r"cores \[(.*)\]", capfd.readouterr().out)
    assert sorted(map(int, bound)) == sorted(os.sched_getaffinity(0))


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
        "import sys; from radflow.cluster.hosts import Host; from radflow.cluster.launchers.base import RankJob\n"
        "from radflow.cluster.launchers.table import prepare_launch; from radflow.config import exit_code_of\n"
        f"job = RankJob([sys.executable, '-c', {rank!r}], 2, [Host('localhost', 2)], threads=1)\n"
        "sys.exit(exit_code_of(lambda: sys.exit(prepare_launch('mpirun', job).run().code)))"
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
