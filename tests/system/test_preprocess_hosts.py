"""Several hosts preprocess a release together, into the bytes that one makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import run_entry_point, runs_of, user_environment

from benchmarks.lost_hosts import radflow
from benchmarks.network_hosts import CAN_MAKE_HOSTS, SUBNET, NetworkHosts, network_hosts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(not CAN_MAKE_HOSTS, reason="network namespaces need root, ip and unshare"),
]


def preprocess_on(hosts: NetworkHosts, source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    flags = [f"--hosts={','.join(hosts.names)}", f"--ssh_agent={hosts.ssh_agent}", f"--interface={SUBNET}"]
    line = radflow("preprocess", f"--source={source}", "--out=together", "--image_size=32", "--workers=1", *flags)
    return subprocess.run(
        hosts.command(hosts.names[0], line),
        cwd=folder,
        env=hosts.environment(user_environment(folder)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_two_hosts_make_the_bytes_that_one_makes(workplace: Path, tmp_path: Path) -> None:
    films = workplace / "films"
    run_entry_point(tmp_path, "preprocess", f"--source={films}", "--out=alone", "--image_size=32").check_returncode()
    with network_hosts(2, tmp_path) as hosts:
        ended = preprocess_on(hosts, films, tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert hosts.wait_until_empty(10) == {}
    assert "decoding on h1, h2" in ended.stderr
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert {file.name: file.read_bytes() for file in together.iterdir()} == {
        file.name: file.read_bytes() for file in alone.iterdir()
    }
    assert [run.info.status for run in runs_of(tmp_path)] == ["FINISHED", "FINISHED"]
    assert not list(tmp_path.glob(".together*"))


def test_a_host_that_sees_other_films_is_named(workplace: Path, tmp_path: Path) -> None:
    films = workplace / "films"
    (tmp_path / "empty").mkdir()
    run_entry_point(tmp_path, "sample", "--out=other", "--films=240", "--seed=4").check_returncode()
    with network_hosts(2, tmp_path) as hosts:
        hosts.replace("h2", films, by=tmp_path / "other")
        ended = preprocess_on(hosts, films, tmp_path)
    assert ended.returncode == 2
    assert f"error: h2 sees other films or lists in {films}" in ended.stderr
    assert runs_of(tmp_path)[0].info.status == "FAILED"
