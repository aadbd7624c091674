"""Cores, threads and number formats of this machine, and how TensorFlow is told of them."""

from __future__ import annotations

import os
from pathlib import Path

from radflow.errors import UserError


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut to a cgroup's CPU quota where there is one."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(allowed, int(quota))) if quota else allowed


def is_pinned() -> bool:
    """Whether somebody has given this process some of the cores only, of those that its machine or container has."""
    return len(os.sched_getaffinity(0)) < _installed_cores()


def choose_threads(threads: int, cores: int, ranks_on_node: int) -> int:
    """Threads of one rank: what the user gave, or an equal share of the node's cores."""
    if threads < 0:
        raise UserError(f"threads={threads} must be 0 (an equal share of the cores) or a positive number")
    return threads or max(1, cores // ranks_on_node)


def set_threads(threads: int, ranks_on_node: int = 1) -> None:
    """Make this process compute with `threads` threads, or its share of the cores; before TensorFlow is imported.

    What a launcher has set already stays: it knows how many ranks share the node's cores.
    """
    for name, value in thread_environment(choose_threads(threads, available_cores(), ranks_on_node)).items():
        os.environ.setdefault(name, value)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment of a process that computes with `threads` threads (paper, section III-A.2).

    It must be set before TensorFlow is imported.
    """
    return {
        "OMP_NUM_THREADS": str(threads),
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "KMP_BLOCKTIME": "1",
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1" if threads == 1 else "2",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def supports_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without it bf16 is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def choose_precision(precision: str) -> str:
    """The Keras dtype policy: `auto` is mixed_bfloat16 where the CPU has it and float32 elsewhere."""
    if precision == "auto":
        return "mixed_bfloat16" if supports_bfloat16() else "float32"
    return precision


def _installed_cores() -> int:
    """Cores of the machine, or of the container's cpuset."""
    try:
        ranges = Path("/sys/fs/cgroup/cpuset.cpus.effective").read_text(encoding="utf-8").strip().split(",")
        bounds = [[int(bound) for bound in one.split("-")] for one in ranges]
    except (OSError, ValueError):
        return os.cpu_count() or 1
    return sum(bound[-1] - bound[0] + 1 for bound in bounds)


def _cgroup_quota() -> float | None:
    """Cores' worth of CPU time that cgroup v2 or v1 grants, None where there is no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 else None
