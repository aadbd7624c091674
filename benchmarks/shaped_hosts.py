"""`radflow scale` over four hosts on this machine whose links are slow: predictions held against measurements.

    python -m benchmarks.shaped_hosts --out=FOLDER --milliseconds=1 --megabits=100

Needs root, since the hosts are network namespaces. Other flags are those of `scale`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.lost_hosts import radflow
from benchmarks.network_hosts import PROJECT, network_hosts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="scaling")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--milliseconds", type=float, default=1.0, help="of a frame from host to host")
    parser.add_argument("--megabits", type=float, default=100.0, help="a second that a host can send")
    options, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, network_hosts(options.count, Path(folder)) as hosts:
        hosts.shape(options.milliseconds, options.megabits)
        line = radflow("scale", f"--out={Path(options.out).resolve()}", *hosts.flags, *flags)
        environment = hosts.environment({**os.environ, "PYTHONPATH": str(PROJECT)})
        sys.exit(subprocess.run(hosts.command("h1", line), env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
