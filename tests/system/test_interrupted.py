"""Preprocessing that is killed outright, or loses its store, ends with the bytes of one that was left in peace."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Command, user_environment
from s3_server import BUCKET, S3Server

from radflow.data.config import PreprocessConfig
from radflow.data.preprocess import preprocess

pytestmark = pytest.mark.long

IMAGE_SIZE = 768
"""At which a shard holds 113 films, so that the 240 films of the workplace are four shards."""


@pytest.fixture(scope="module")
def whole(workplace: Path) -> dict[str, bytes]:
    """Files of the dataset that nothing interrupted."""
    source, out = str(workplace / "films"), str(workplace / "whole")
    return contents(preprocess(PreprocessConfig(source=source, out=out, image_size=IMAGE_SIZE, workers=1)).path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "store")
    server.start()
    yield server
    server.kill()


def command_line(source: str, out: str) -> list[str]:
    flags = [f"--source={source}", f"--out={out}", f"--image_size={IMAGE_SIZE}", "--workers=2"]
    return [sys.executable, "-m", "entrypoints.preprocess", *flags]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what a running process brings about."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_killed_outright_and_started_again(
    workplace: Path, command: Command, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = command_line("films", str(out))
    process = subprocess.Popen(line, cwd=workplace, env=user_environment(workplace), stderr=subprocess.DEVNULL)
    journal = tmp_path / ".out.partial" / "journal.jsonl"
    wait_until(lambda: journal.exists() and "train-00000.arrow" in journal.read_text(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    again = command("preprocess", *line[3:])
    assert again.returncode == 0, again.stderr
    assert "resuming after an interruption: " in again.stderr
    assert contents(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_that_is_killed_and_comes_back(workplace: Path, whole: dict[str, bytes], server: S3Server) -> None:
    shutil.copytree(workplace / "films", server.bucket / "films")
    line = command_line(f"s3://{BUCKET}/films", f"s3://{BUCKET}/set")
    cache = {"RADFLOW_CACHE": str(server.bucket.parent.parent / "cache")}
    environment = {**user_environment(workplace), **server.environment, **cache}
    with subprocess.Popen(line, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until((server.bucket / "set" / "train-00000.arrow").exists, process)
        server.kill()
        time.sleep(2)
        server.start()
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    stored = contents(server.bucket / "set")
    # What the killed server was at, it leaves behind under a name of its own.
    assert {name: content for name, content in stored.items() if not name.startswith(".rclone_temp_put_")} == whole
