"""Several hosts on this machine: network namespaces joined by a bridge, whose links can be cut and slowed down."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SUBNET = "10.77.0.0/24"
SSH_PORT = 22

CAN_MAKE_HOSTS = os.geteuid() == 0 and all(map(shutil.which, ("ip", "nsenter", "unshare")))

# Stands for sshd: whoever cannot reach it cannot start anything on the host.
_LISTENER = f"import socket, time\ns = socket.create_server(('', {SSH_PORT}))\nwhile True: s.accept()[0].close()"


class NetworkHosts:
    """Hosts h1, h2, ..., which have this machine's files and a network of their own."""

    def __init__(self, count: int, folder: Path) -> None:
        self.names = [f"h{number}" for number in range(1, count + 1)]
        self.folder = folder
        self.ssh_agent = str(folder / "ssh_agent")
        self._names_file = folder / "etc_hosts"
        self._prefix = f"rf{os.getpid() % 10000}"
        self._listeners: list[subprocess.Popen[bytes]] = []
        self._differences: dict[str, list[str]] = {}

    def make(self) -> None:
        addresses = [f"{self.address(host)} {host}" for host in self.names]
        self._names_file.write_text("\n".join(["127.0.0.1 localhost", *addresses, ""]))
        ip("link", "add", self._bridge, "type", "bridge")
        ip("link", "set", self._bridge, "up")
        for host in self.names:
            space, cable = self._space(host), self._cable(host)
            ip("netns", "add", space)
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", cable, "master", self._bridge, "up")
            ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
            self._listeners.append(subprocess.Popen(self.command(host, [sys.executable, "-c", _LISTENER])))
        self._write_agent()

    def remove(self) -> None:
        for listener in self._listeners:
            listener.kill()
            listener.wait()
        made = ip("netns", "list").split()
        for host in self.names:
            if self._space(host) in made:
                self.signal(host, signal.SIGKILL)
                ip("-n", self._space(host), "link", "delete", "eth0")  # with its namespace it would go some time later
                ip("netns", "delete", self._space(host))
        ip("link", "delete", self._bridge)

    def command(self, host: str, line: Sequence[str]) -> list[str]:
        """What runs `line` on a host, under its host name."""
        return [*self._enter(self._space(host)), f"{self._prepare(host)}; exec {shlex.join(line)}"]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What Open MPI needs where several hosts share one memory: it would wait for messages in it for ever."""
        return {**environment, "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self"}

    @property
    def flags(self) -> list[str]:
        """The flags by which `distributed` reaches the hosts, with one rank on each."""
        hosts = ",".join(f"{host}:1" for host in self.names)
        return [f"--hosts={hosts}", f"--ssh_agent={self.ssh_agent}", f"--interface={SUBNET}"]

    def address(self, host: str) -> str:
        """IP address of a host."""
        return f"10.77.0.{self.names.index(host) + 1}"

    def pids(self, host: str) -> list[int]:
        """Processes of a host, but the one that stands for sshd."""
        found = map(int, ip("netns", "pids", self._space(host)).split())
        return [pid for pid in found if pid not in [listener.pid for listener in self._listeners]]

    def replace(self, host: str, place: Path, by: Path) -> None:
        """Let processes that start on a host from now on find the file or folder `by` at `place`."""
        self._differences.setdefault(host, []).append(f"mount --bind {by} {place}")
        self._write_agent()

    def signal(self, host: str, number: signal.Signals) -> None:
        for pid in self.pids(host):
            os.kill(pid, number)

    def cut(self, host: str) -> None:
        """Unplug the host's cable: what is on its way is lost, and nobody is told."""
        ip("link", "set", self._cable(host), "nomaster")

    def reconnect(self, host: str) -> None:
        ip("link", "set", self._cable(host), "master", self._bridge)

    def shape(self, milliseconds: float, megabits: float) -> None:
        """Have each frame take so long to the other host, and each host send so many Mbit/s.

        The links can no longer be cut afterwards.
        """
        for host in self.names:
            line = ["tc", "-n", self._space(host), "qdisc", "add", "dev", "eth0", "root", "tbf"]
            subprocess.run([*line, "rate", f"{megabits}mbit", "burst", "128kb", "latency", "400ms"], check=True)
            ip("link", "set", self._cable(host), "nomaster")
        cables = map(self._cable, self.names)
        switch = [sys.executable, "-m", "benchmarks.delaying_switch", str(milliseconds), *cables]
        self._listeners.append(subprocess.Popen(switch, cwd=PROJECT))

    def wait_until_empty(self, seconds: float) -> dict[str, list[str]]:
        """Processes that are left on each host after at most so many seconds; {} where none are."""
        deadline = time.monotonic() + seconds
        while True:
            left = {host: pids for host in self.names if (pids := self.pids(host))}
            if not left or time.monotonic() > deadline:
                return {host: [_told(pid) for pid in pids] for host, pids in left.items()}
            time.sleep(0.2)

    def _enter(self, space: str) -> list[str]:
        """Beginning of a command line: the rest, a script, runs in the network of a host."""
        return ["nsenter", f"--net=/run/netns/{space}", "unshare", "--uts", "--mount", "bash", "-c"]

    def _prepare(self, host: str) -> str:
        differences = self._differences.get(host, [])
        return "; ".join([f"hostname {host}", f"mount --bind {self._names_file} /etc/hosts", *differences])

    @property
    def _bridge(self) -> str:
        return f"{self._prefix}br"

    def _space(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _cable(self, host: str) -> str:
        return f"{self._prefix}{host}"

    def _write_agent(self) -> None:
        """A program that runs a command on a host if that can be reached over the network, like ssh."""
        enter = " ".join(self._enter(f"{self._prefix}-$host"))
        cases = "".join(f"{host}) prepare={shlex.quote(self._prepare(host))};; " for host in self.names)
        agent = Path(self.ssh_agent)
        agent.write_text(
            "#!/bin/bash\n"
            "host=$1; shift\n"
            f'timeout 5 bash -c "exec 3<>/dev/tcp/10.77.0.${{host#h}}/{SSH_PORT}" 2>/dev/null || exit 255\n'
            f"case $host in {cases}esac\n"
            f'exec {enter} "$prepare; $*"\n'
        )
        agent.chmod(0o755)


@contextmanager
def network_hosts(count: int, folder: Path) -> Iterator[NetworkHosts]:
    """So many hosts while the block lasts."""
    hosts = NetworkHosts(count, folder)
    try:
        hosts.make()
        yield hosts
    finally:
        hosts.remove()


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _told(pid: int) -> str:
    """A process as messages name it; it may have ended meanwhile."""
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()[:100]}"
    except OSError:
        return str(pid)
