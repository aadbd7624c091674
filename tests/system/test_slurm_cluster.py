"""A real Slurm of two nodes: its allocations are used whole, and a preempted job goes on in the same run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from commands import REPOSITORY, run_entry_point, runs_of, user_environment

from benchmarks.network_hosts import SUBNET, network_hosts
from benchmarks.slurm_cluster import CAN_RUN_SLURM, SlurmCluster, slurm_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(not CAN_RUN_SLURM, reason="needs root, ip, unshare, and Slurm with munge and libpmix.so"),
]

TRAINING = ["--arch=vgg16", "--gbz=64", "--base_lr=0.0001", "--precision=float32", "--assess=false"]
ON_HOSTS = [f"--interface={SUBNET}", "--checkpoint_minutes=0"]
WAIT_SECONDS = 900


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[SlurmCluster]:
    # The names of its sockets may have 107 letters, of which pytest's folders would take most.
    with (
        TemporaryDirectory(prefix="slurm-") as folder,
        network_hosts(2, tmp_path) as hosts,
        slurm_cluster(hosts, Path(folder)) as cluster,
    ):
        yield cluster


def wait_until(is_so: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {WAIT_SECONDS} s; the job has said:\n{log.read_text() if log.exists() else ''}")
        time.sleep(0.2)


def losses(folder: Path) -> list[tuple[float, float]]:
    """Training and validation loss of each epoch of the only job in a folder."""
    (history,) = folder.glob("*/history.jsonl")
    epochs = map(json.loads, history.read_text().splitlines())
    return [(epoch["train/loss"], epoch["val/loss"]) for epoch in epochs]


@pytest.mark.parametrize("told", ["preempted", pytest.param("out of time", marks=pytest.mark.long)])
def test_a_job_that_is_queued_again_goes_on_in_the_same_run_as_if_nothing_had_happened(
    slurm: SlurmCluster, workplace: Path, tmp_path: Path, told: str
) -> None:
    flags = [f"--data={workplace / 'dataset'}", *TRAINING, "--epochs=6"]
    alone = tmp_path / "alone"
    alone.mkdir()
    ended = run_entry_point(alone, "distributed", *flags, "--out=jobs", "--np=1", "--lbz=32", "--hosts=localhost:1")
    assert ended.returncode == 0, ended.stderr
    log = tmp_path / "job.log"
    script = ["docker/slurm/train.sbatch", *flags, f"--out={tmp_path / 'jobs'}", *ON_HOSTS]
    line = ["sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", f"--output={log}", *script]
    job = slurm.run(*line, environment=user_environment(tmp_path), cwd=REPOSITORY).strip()
    wait_until(lambda: list(tmp_path.glob("jobs/*/step-00000004.npz")), log)
    if told == "preempted":
        urgent = slurm.run("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 1")
        wait_until(lambda: slurm.state(urgent.strip()) == "COMPLETED", log)
    else:  # as `#SBATCH --signal=B:USR1@120` does, which Slurm keeps to within a minute
        slurm.run("scancel", "--batch", "--signal=USR1", job)
        wait_until(lambda: slurm.state(job) != "RUNNING", log)
    wait_until(lambda: slurm.state(job) in ("COMPLETED", "FAILED"), log)
    assert slurm.state(job) == "COMPLETED", log.read_text()
    assert "resuming" in log.read_text()
    (run,) = runs_of(tmp_path)
    assert run.info.status == "FINISHED"
    assert np.allclose(losses(tmp_path / "jobs"), losses(alone / "jobs"), rtol=1e-4)


@pytest.mark.parametrize("launcher", ["auto", "mpirun"])
def test_an_interactive_allocation_is_used_whole(
    slurm: SlurmCluster, workplace: Path, tmp_path: Path, launcher: str
) -> None:
    line = ["salloc", "--nodes=2", "python", "-m", "radflow", "distributed", f"--data={workplace / 'dataset'}"]
    line += [*TRAINING, *ON_HOSTS, "--epochs=1", f"--launcher={launcher}"]
    said = slurm.run(*line, environment=user_environment(tmp_path), cwd=tmp_path)
    (run,) = runs_of(tmp_path)
    assert run.info.status == "FINISHED", said
    assert run.data.params["cfg/ranks"] == "2"
    assert f"ranks with {'srun' if launcher == 'auto' else launcher}" in said, said
