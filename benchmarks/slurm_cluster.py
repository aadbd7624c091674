"""Slurm on hosts of this machine (`network_hosts`), with a partition that preempts another."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.network_hosts import CAN_MAKE_HOSTS, NetworkHosts

CAN_RUN_SLURM = CAN_MAKE_HOSTS and all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch")))
START_SECONDS = 60

# A job that is queued again may start when its credential has expired: by default two minutes later.
_SETTINGS = """
ClusterName=radflow
SlurmctldHost={controller}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 State=UP
"""


class SlurmCluster:
    """Slurm whose commands are given on the first host."""

    def __init__(self, hosts: NetworkHosts, folder: Path) -> None:
        self.hosts = hosts
        self._folder = folder
        self._daemons = ExitStack()

    def start(self) -> None:
        """Start munge, by which the daemons trust each other, and Slurm's daemons; wait until all nodes are idle."""
        for name in ("state", *(f"{kind}-{host}" for kind in ("spool", "tmp") for host in self.hosts.names)):
            (self._folder / name).mkdir()
        self._write_settings()
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        files = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munge.pid", "seed-file": "munge.seed"}
        flags = [f"--{flag}={self._folder / name}" for flag, name in files.items()]
        first = self.hosts.names[0]
        # By default munge refuses folders that others may write, as /tmp is.
        self._start(first, "munged", "--force", "--foreground", f"--log-file={self._folder / 'munge.log'}", *flags)
        self._wait((self._folder / "munge.socket").exists, "munged")
        self._start(first, "slurmctld", "-D")
        for host in self.hosts.names:
            self._start(host, "slurmd", "-D")
        idle = ["idle"] * len(self.hosts.names)
        self._wait(lambda: self.run("sinfo", "-p", "low", "-h", "-N", "-o", "%T", check=False).split() == idle, "Slurm")

    def stop(self) -> None:
        """End the daemons."""
        self._daemons.close()

    def run(
        self,
        *line: str,
        environment: Mapping[str, str] = os.environ,
        cwd: Path | None = None,
        check: bool = True,
        timeout: float = 600,
    ) -> str:
        """Run a command on the first host; returns what it prints on stdout and stderr."""
        ended = subprocess.run(
            self.hosts.command(self.hosts.names[0], line),
            env=self._environment(environment),
            cwd=cwd or self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and ended.returncode:
            raise RuntimeError(f"`{' '.join(line)}` ended with {ended.returncode}:\n{ended.stdout}")
        return ended.stdout

    def state(self, job: str) -> str:
        """State of a job, such as RUNNING."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.partition("=")[::2] for word in words)["JobState"]

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {**self.hosts.environment(environment), "SLURM_CONF": str(self._folder / "slurm.conf")}

    def _write_settings(self) -> None:
        nodes = [
            f"NodeName={host} NodeAddr={self.hosts.address(host)} CPUs=2 RealMemory=4000" for host in self.hosts.names
        ]
        settings = _SETTINGS.format(folder=self._folder, controller=self.hosts.names[0], nodes="\n".join(nodes))
        (self._folder / "slurm.conf").write_text(settings)

    def _start(self, host: str, *line: str) -> None:
        daemon = subprocess.Popen(
            self.hosts.command(host, line),
            env=self._environment(os.environ),
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._daemons.callback(daemon.wait)
        self._daemons.callback(daemon.terminate)

    def _wait(self, is_ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if time.monotonic() > deadline:
                logs = "".join(log.read_text() for log in sorted(self._folder.glob("*.log")))
                raise RuntimeError(f"{what} did not start in {START_SECONDS} s:\n{logs[-4000:]}")
            time.sleep(0.2)


@contextmanager
def slurm_cluster(hosts: NetworkHosts, folder: Path) -> Iterator[SlurmCluster]:
    """Slurm on these hosts while the block lasts, with its files in `folder`."""
    cluster = SlurmCluster(hosts, folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
