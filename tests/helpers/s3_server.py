"""A real S3 server over a folder: rclone, which checks keys and may be killed and started again."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

ACCESS_KEY, SECRET = "radflow-tests", "not-a-secret"
BUCKET = "films"


class S3Server:
    """Serves `folder`, whose folders are buckets; there is one called `BUCKET`."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / BUCKET
        self.bucket.mkdir(parents=True)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a user sets to reach it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        rclone = Path(sys.executable).with_name("rclone")
        line = [rclone, "serve", "s3", "--auth-key", f"{ACCESS_KEY},{SECRET}", "--addr", f"127.0.0.1:{self._port}"]
        # Without a cache of folders, what tests put into the folder is there at once.
        line += ["--vfs-cache-mode", "off", "--dir-cache-time", "0s", self._folder]
        log = (self._folder.parent / "rclone.log").open("ab")
        with log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log)
        while not self._answers():
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
