"""The GPUs of this machine, found without TensorFlow, whose import takes seconds and memory on each of them.

Not run on real GPUs yet: tests replace nvidia-smi and TensorFlow's list of devices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from radflow.errors import UserError
from radflow.versions import installed_versions

BFLOAT16_CAPABILITY = 8.0
"""Compute capability from which on tensor cores multiply bfloat16: Ampere, as A100."""

_QUERY = ("--query-gpu=index,uuid,name,compute_cap", "--format=csv,noheader")
_ANSWER_SECONDS = 60


class Gpu(NamedTuple):
    """A GPU that this process may use."""

    name: str
    capability: float
    """CUDA's compute capability, as 8.0."""


@cache
def usable_gpus() -> tuple[Gpu, ...]:
    """The GPUs that TensorFlow would use here, in its order; none where its CPU wheel is installed.

    Raises UserError where nvidia-smi is there and fails: a driver that is broken is no reason to train on CPUs.
    """
    program = shutil.which("nvidia-smi")
    if not program or not installed_versions(["tensorflow"]):
        return ()
    try:
        answer = subprocess.run([program, *_QUERY], capture_output=True, text=True, check=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stdout", "") or str(error)).strip().partition("\n")[0]
        raise UserError(f"nvidia-smi fails ({said}); mend the driver, or set CUDA_VISIBLE_DEVICES=-1") from error
    rows = [[word.strip() for word in line.split(",")] for line in answer.stdout.splitlines()]
    installed = {(index, uuid): Gpu(name, float(capability)) for index, uuid, name, capability in rows}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(installed.values() if visible is None else _visible(installed, visible.split(",")))


def _visible(installed: Mapping[tuple[str, str], Gpu], names: Iterable[str]) -> Iterator[Gpu]:
    """GPUs by number or by the beginning of their UUID, up to the first name that there is not, as CUDA takes them."""
    for name in names:
        found = [gpu for (index, uuid), gpu in installed.items() if name == index or (name and uuid.startswith(name))]
        if not found:
            return
        yield found[0]
