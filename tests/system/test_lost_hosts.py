"""Several hosts: they train as one rank does, a lost one costs a restart, and one that differs is named."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest
from commands import run_entry_point, runs_of

from benchmarks.lost_hosts import FAULTS, HOSTS, HostJob, radflow
from benchmarks.network_hosts import CAN_MAKE_HOSTS, NetworkHosts, network_hosts

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


def another_dataset(hosts: NetworkHosts, workplace: Path) -> None:
    flags = f"preprocess --source={workplace / 'films'} --out=other --image_size=32 --seed=1"
    run_entry_point(hosts.folder, *flags.split()).check_returncode()
    hosts.replace("h2", workplace / "dataset", by=hosts.folder / "other")


def no_dataset(hosts: NetworkHosts, workplace: Path) -> None:
    (hosts.folder / "empty").mkdir()
    hosts.replace("h2", workplace / "dataset", by=hosts.folder / "empty")


def another_version(hosts: NetworkHosts, workplace: Path) -> None:
    keras = importlib.metadata.distribution("keras")
    metadata = Path(str(keras.locate_file(f"keras-{keras.version}.dist-info/METADATA")))
    other = hosts.folder / "METADATA"
    other.write_text(metadata.read_text().replace(f"Version: {keras.version}", "Version: 3.0.1"))
    hosts.replace("h2", metadata, by=other)


@pytest.mark.long
@pytest.mark.parametrize(
    ("differ", "told"),
    [
        (another_dataset, ("ranks have different datasets: SHA-256=", " on h1 (rank 0)", " on h2 (rank 1)")),
        (no_dataset, ("on h2: ",)),
        (another_version, ("ranks have different versions: keras=", "keras=3.0.1 on h2 (rank 1)")),
    ],
)
def test_a_host_that_differs_is_named_in_one_line_before_the_first_step(
    workplace: Path, tmp_path: Path, differ, told: tuple[str, ...]
) -> None:
    with network_hosts(2, tmp_path) as hosts:
        job = HostJob(workplace / "dataset", tmp_path, hosts)
        differ(hosts, workplace)
        line = radflow("distributed", *job.flags, "--out=jobs", *hosts.flags)
        environment = hosts.environment(job.environment)
        ended = subprocess.run(
            hosts.command("h1", line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert hosts.wait_until_empty(10) == {}
    assert ended.returncode == 2
    (error,) = [line for line in ended.stderr.splitlines() if "warning" not in line and not line.startswith("starting")]
    assert all(word in error for word in told), error
    assert not list(tmp_path.glob("jobs/*/step-*"))
    assert runs_of(tmp_path)[0].info.status == "FAILED"
