"""What the contestants of benchmarks/training.py share; standard library only, since PyTorch's venv has no more."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Sequence

WARM_UP_STEPS = 2
FINDINGS = 14


def parser() -> argparse.ArgumentParser:
    """The flags that every contestant takes."""
    options = argparse.ArgumentParser()
    options.add_argument("--arch", required=True)
    options.add_argument("--batch", type=int, required=True)
    options.add_argument("--image_size", type=int, required=True)
    options.add_argument("--steps", type=int, required=True)
    return options


def wait_for_others() -> None:
    """Say that warm-up is over, and measure when told to."""
    print("ready", flush=True)
    sys.stdin.readline()


def result(films_of_step: float, step_seconds: Sequence[float], **more: float) -> str:
    """A contestant's result as JSON; the median step says how fast it is, the process how much memory it took."""
    speed = films_of_step / statistics.median(step_seconds)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return json.dumps({"images_per_second": speed, "peak_mib": peak_mib, **more})
