"""The training benchmark measures the training loop itself: it must keep up with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import REPOSITORY, user_environment

pytestmark = pytest.mark.slow


def test_a_step_is_measured_with_all_its_parts(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "benchmarks.radflow_steps",
        "--arch=vgg16",
        "--batch=2",
        "--image_size=32",
        "--steps=2",
    ]
    ended = subprocess.run(
        line, cwd=REPOSITORY, env=user_environment(tmp_path), input="go\n", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    ready, result = ended.stdout.splitlines()
    assert ready == "ready"
    measured = json.loads(result)
    parts = [measured[part] for part in ("input", "forward_backward", "reduce", "update", "logging")]
    assert min(parts) > 0
    assert measured["forward_backward"] > 0.5 * sum(parts)
    assert sum(parts) == pytest.approx(2 / measured["images_per_second"], rel=0.5)
