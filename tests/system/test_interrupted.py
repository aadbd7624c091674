"""Preprocessing that is killed outright, or loses its store, ends with the bytes of one that was left in peace."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command, user_environment
from s3_server import BUCKET, S3Server

pytestmark = pytest.mark.slow

FLAGS = ["--image_size=1024", "--workers=2"]
"""At 1024 pixels a shard holds 64 films, so that the 240 films of the workplace are six shards."""


@pytest.fixture(scope="module")
def whole(workplace: Path) -> dict[str, bytes]:
    """Files of the data set that nothing interrupted."""
    ended = subprocess.run(
        [*preprocess("films", "whole"), "--workers=1"], cwd=workplace, env=user_environment(workplace), check=False
    )
    assert ended.returncode == 0
    return contents(workplace / "whole")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "store")
    server.start()
    yield server
    server.kill()


def preprocess(source: str, out: str) -> list[str]:
    return [sys.executable, "-m", "entrypoints.preprocess", f"--source={source}", f"--out={out}", *FLAGS]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_for(shard: str, folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a shard of this name is in the folder."""
    while not (folder / shard).exists():
        assert process.poll() is None
        time.sleep(0.02)


def test_killed_outright_and_started_again(
    workplace: Path, command: Command, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = preprocess("films", str(out))
    process = subprocess.Popen(line, cwd=workplace, env=user_environment(workplace), stderr=subprocess.DEVNULL)
    wait_for("train-00001.arrow", tmp_path / ".out.partial" / "dataset", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    again = command("preprocess", *line[3:])
    assert again.returncode == 0, again.stderr
    assert "going on after an interruption: " in again.stderr
    assert contents(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_that_is_killed_and_comes_back(workplace: Path, whole: dict[str, bytes], server: S3Server) -> None:
    (server.bucket / "films").symlink_to(workplace / "films")
    line = preprocess(f"s3://{BUCKET}/films", f"s3://{BUCKET}/set")
    cache = {"RADFLOW_CACHE": str(server.bucket.parent.parent / "cache")}
    environment = {**user_environment(workplace), **server.environment, **cache}
    with subprocess.Popen(line, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for("train-00000.arrow", server.bucket / "set", process)
        server.kill()
        time.sleep(2)
        server.start()
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert contents(server.bucket / "set") == whole
