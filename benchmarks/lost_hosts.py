"""What a lost rank, host or link costs: four hosts on this machine train, and something is taken from them.

    python -m benchmarks.lost_hosts
    python -m benchmarks.lost_hosts --faults cut-link frozen-host --stall_seconds=20

Needs root, since the hosts are network namespaces. For each fault the table has the seconds until the job noticed,
until ranks were started again, and until they went on; and whether all ended as it should: the exit code, one MLflow
run with the right status, no process on any host, and the losses those of one rank to which nothing happened. Exits
with 1 unless all of that is so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.network_hosts import NetworkHosts, network_hosts

PROJECT = Path(__file__).resolve().parent.parent
HOSTS = 4
TRAINING = ["--arch=vgg16", "--gbz=64", "--epochs=3", "--base_lr=0.0001", "--precision=float32", "--assess=false"]
OUT = "hosts"
DISK = "1G"
"""Size of the disk on which the job writes its checkpoints."""
STEP = 4
"""Step after whose checkpoint the fault happens."""
FIRST_CHECKPOINT_SECONDS = 300
END_SECONDS = 600


def kill_rank(hosts: NetworkHosts) -> None:
    ranks = [pid for pid in hosts.pids("h3") if b"distributed" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(max(ranks), signal.SIGKILL)


def kill_host(hosts: NetworkHosts) -> None:
    hosts.signal("h3", signal.SIGKILL)


def cut_link(hosts: NetworkHosts) -> None:
    hosts.cut("h3")


def cut_link_for_a_while(hosts: NetworkHosts) -> None:
    hosts.cut("h3")
    time.sleep(20)
    hosts.reconnect("h3")


def freeze_host(hosts: NetworkHosts) -> None:
    hosts.signal("h3", signal.SIGSTOP)


def terminate_all(hosts: NetworkHosts) -> None:
    for host in hosts.names:
        hosts.signal(host, signal.SIGTERM)


def fill_disk(hosts: NetworkHosts) -> None:
    """Leave no room where the job writes."""
    with suppress(OSError), (hosts.folder / OUT / "filling").open("wb") as file:
        while True:
            file.write(bytes(2**20))


@dataclass(frozen=True)
class Fault:
    """Something that happens to the hosts, and how the job should take it."""

    happens: Callable[[NetworkHosts], None]
    told: str
    """What the job says of it; '' where it need not notice."""
    code: int = 0
    status: str = "FINISHED"


FAULTS = {
    "nothing": Fault(lambda hosts: None, ""),  # noqa: ARG005
    "killed-rank": Fault(kill_rank, "rank 2 on h3 was ended by signal 9 (Killed); restart 1 of 2"),
    "killed-host": Fault(kill_host, "the connection to h3 is lost; restart 1 of 2"),
    "cut-link": Fault(cut_link, "h3 cannot be reached; going on without"),
    "cut-for-20-s": Fault(cut_link_for_a_while, ""),
    "frozen-host": Fault(freeze_host, "rank 2 on h3"),
    "full-disk": Fault(fill_disk, "No space left on device; training goes on"),
    "sigterm": Fault(terminate_all, "stopped: received SIGTERM", 128 + signal.SIGTERM, "KILLED"),
}


@dataclass
class Trial:
    """What became of a job that something happened to."""

    errors: list[tuple[float, str]] = field(default_factory=list)
    """Lines of stderr, each with the seconds since the fault."""
    code: int | None = None
    wrong: list[str] = field(default_factory=list)

    def seconds(self, *words: str) -> float | None:
        """When the first line after the fault came that has one of these words."""
        return next((at for at, line in self.errors if at > 0 and any(word in line for word in words)), None)


class HostJob:
    """A training on hosts, started on the first of them, and one like it on a single rank."""

    def __init__(self, data: Path, folder: Path, hosts: NetworkHosts) -> None:
        self.folder, self.hosts = folder, hosts
        self.flags = [f"--data={data}", *TRAINING]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RADFLOW_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }

    def run(self, fault: Fault, *flags: str) -> Trial:
        """Train, let the fault happen, wait for the end, and look at what is left."""
        with disk(self.folder / OUT):
            trial = self._run(fault, *flags)
            self._check(trial, fault)
        return trial

    def _run(self, fault: Fault, *flags: str) -> Trial:
        trial, line = Trial(), radflow("distributed", *self.flags, f"--out={OUT}", *self.hosts.flags, *flags)
        with subprocess.Popen(
            self.hosts.command("h1", line),
            cwd=self.folder,
            env=self.hosts.environment(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            happened = [float("inf")]
            reading = threading.Thread(target=_read, args=(process.stderr, trial, happened))
            reading.start()
            self._wait_for_step(process, trial)
            happened[0] = time.monotonic()
            fault.happens(self.hosts)
            trial.code = process.wait(END_SECONDS)
            reading.join()
        return trial

    def _wait_for_step(self, process: subprocess.Popen[str], trial: Trial) -> None:
        deadline = time.monotonic() + FIRST_CHECKPOINT_SECONDS
        while not list(self.folder.glob(f"{OUT}/*/step-{STEP:08}.npz")):
            if process.poll() is not None or time.monotonic() > deadline:
                said = "".join(line for _, line in trial.errors)
                raise SystemExit(f"the job did not come to the step at which something was to happen:\n{said}")
            time.sleep(0.02)

    def _check(self, trial: Trial, fault: Fault) -> None:
        said = "".join(line for _, line in trial.errors)
        if trial.code != fault.code:
            trial.wrong.append(f"exit code {trial.code}")
        if fault.told not in said:
            trial.wrong.append(f"not told: {fault.told}")
        self.hosts.signal("h3", signal.SIGCONT)  # where it was frozen, its rank ends itself now
        if left := self.hosts.wait_until_empty(60):
            trial.wrong.append(f"processes are left: {left}")
        if (statuses := self._statuses()) != [fault.status]:
            trial.wrong.append(f"status of the runs is {statuses}")
        if fault.status == "FINISHED" and not np.allclose(*map(self.losses, (OUT, "alone")), rtol=1e-4):
            trial.wrong.append(f"losses are {self.losses(OUT)}, not {self.losses('alone')}")

    def train_alone(self) -> None:
        """What the hosts must come to, on one rank."""
        line = radflow("distributed", *self.flags, "--out=alone", "--np=1", "--lbz=16", "--hosts=localhost:1")
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'alone.db'}"}
        subprocess.run(line, cwd=self.folder, env=self.environment | store, capture_output=True, check=True)

    def losses(self, out: str) -> list[tuple[float, float]]:
        """Training and validation loss of each epoch."""
        (history,) = self.folder.glob(f"{out}/*/history.jsonl")
        epochs = map(json.loads, history.read_text().splitlines())
        return [(epoch["train/loss"], epoch["val/loss"]) for epoch in epochs]

    def _statuses(self) -> list[str]:
        from mlflow import MlflowClient

        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [run.info.status for run in client.search_runs(experiments)]


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Let a folder be a disk of its own, which can be full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def radflow(entry: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "radflow", entry, *flags]


def _read(stream: Iterable[str], trial: Trial, happened: list[float]) -> None:
    for line in stream:
        trial.errors.append((time.monotonic() - happened[0], line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--stall_seconds", type=float, default=120.0)
    options = parser.parse_args()
    rows, all_well = [], True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for line in ("sample --out=films --films=240 --seed=3", "preprocess --source=films --out=data --image_size=32"):
            subprocess.run(radflow(*line.split()), cwd=folder, capture_output=True, check=True)
        for title in options.faults:
            place = folder / title
            place.mkdir()
            with network_hosts(HOSTS, place) as hosts:
                job = HostJob(folder / "data", place, hosts)
                job.train_alone()
                flags = ("--checkpoint_minutes=0", f"--stall_seconds={options.stall_seconds}")
                trial = job.run(FAULTS[title], *flags)
            all_well &= not trial.wrong
            rows.append(row(title, trial))
            print(rows[-1], *(line.rstrip() for _, line in trial.errors if "warning" in line), sep="\n", flush=True)
    print("\n| what happens | noticed after | started again after | training again after | ends |")
    print("|---|--:|--:|--:|---|")
    print("\n".join(rows))
    sys.exit(not all_well)


def row(title: str, trial: Trial) -> str:
    noticed = trial.seconds("; restart", "stopped: received")
    moments = (noticed, trial.seconds("starting "), trial.seconds("from epoch"))
    told = " | ".join("" if moment is None else f"{moment:.0f} s" for moment in moments)
    return f"| {title} | {told} | {'; '.join(trial.wrong) or 'as it should'} |"


if __name__ == "__main__":
    main()
