"""Ranks on other hosts by real ssh, as in the pods of an MPIJob: docker/ssh, a hostfile, and nobody is root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import REPOSITORY, runs_of, user_environment

from benchmarks.lost_hosts import radflow
from benchmarks.network_hosts import CAN_MAKE_HOSTS, SUBNET, NetworkHosts, network_hosts

CAN_SSH = CAN_MAKE_HOSTS and all(Path(path).exists() for path in ("/usr/sbin/sshd", "/etc/ssh/ssh_config"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(not CAN_SSH, reason="needs root, ip, unshare, and OpenSSH with its server"),
]

# Another name for who runs the tests: files stay readable, and what asks is told that it is not root.
AS_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
TRAINING = "--arch=vgg16 --epochs=1 --gbz=32 --lbz=16 --threads=1 --assess=false"


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[NetworkHosts]:
    """Two workers, h1 and h2, that run sshd as user 1000, and h3, from which ranks are launched."""
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / "id"], check=True)
    shutil.copyfile(keys / "id.pub", keys / "authorized_keys")
    users = tmp_path / "passwd"
    users.write_text(f"root:x:0:0::/root:/bin/sh\nradflow:x:1000:1000::{tmp_path}:/bin/sh\n")
    with network_hosts(3, tmp_path) as hosts, ExitStack() as servers:
        for host in hosts.names:
            hosts.replace(host, Path("/etc/passwd"), by=users)
            hosts.replace(host, Path("/etc/ssh/ssh_config"), by=REPOSITORY / "docker/ssh/ssh_config")
        for worker in hosts.names[:2]:
            serve = hosts.command(worker, [*AS_USER, str(REPOSITORY / "docker/ssh/serve.sh"), str(keys)])
            server = servers.enter_context(subprocess.Popen(serve, env=user_environment(tmp_path)))
            servers.callback(server.kill)
        yield hosts


def test_workers_of_a_hostfile_train_by_ssh_and_nobody_is_root(
    pods: NetworkHosts, workplace: Path, tmp_path: Path
) -> None:
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("h1 slots=1\nh2 slots=1\n")
    flags = [f"--data={workplace / 'dataset'}", f"--hosts={hostfile}", f"--ssh_agent=ssh -i {tmp_path / 'keys/id'}"]
    launcher = radflow("distributed", *flags, f"--interface={SUBNET}", *TRAINING.split())
    ended = subprocess.run(
        pods.command("h3", [*AS_USER, *launcher]),
        cwd=tmp_path,
        env=pods.environment(user_environment(tmp_path)) | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "h1:1, h2:1, 2 ranks" in ended.stdout
    (run,) = runs_of(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["throughput/allreduce_seconds"] > 0
    assert not [told for host in pods.names for told in pods.wait_until_empty(0).get(host, []) if "radflow" in told]
