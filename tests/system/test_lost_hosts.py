"""Several hosts: they train as one rank does, and a lost one costs a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lost_hosts import FAULTS, HOSTS, HostJob
from benchmarks.network_hosts import CAN_MAKE_HOSTS, network_hosts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_MAKE_HOSTS, reason="network namespaces need root, ip and unshare"),
]


@pytest.mark.parametrize(
    "fault", ["nothing", *(pytest.param(name, marks=pytest.mark.long) for name in FAULTS if name != "nothing")]
)
def test_four_hosts_train_as_one_rank_does_in_one_run_whatever_happens(
    workplace: Path, tmp_path: Path, fault: str
) -> None:
    """The losses are those of one rank, the run has the right status, and no process is left on any host."""
    with network_hosts(HOSTS, tmp_path) as hosts:
        job = HostJob(workplace / "dataset", tmp_path, hosts)
        job.train_alone()
        trial = job.run(FAULTS[fault], "--checkpoint_minutes=0", "--stall_seconds=30")
        restarts = [line for _, line in trial.errors if "restart" in line]
    assert trial.wrong == []
    assert bool(restarts) == ("restart" in FAULTS[fault].told or fault in ("cut-link", "frozen-host"))
