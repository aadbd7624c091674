"""The CPU as this process has it: how many cores it may use, and what their instructions are."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut to a cgroup's CPU quota where there is one."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(allowed, int(quota))) if quota else allowed


def is_pinned() -> bool:
    """Whether somebody has given this process some of the cores only, of those that its machine or container has."""
    return len(os.sched_getaffinity(0)) < _installed_cores()


def share_cores(worker: int, workers: int, cores: list[int]) -> None:
    """Keep this thread, and the processes that it starts from now on, on the worker's share of these cores.

    Two trainings that each counted all cores would bind their ranks to the same ones.
    """
    os.sched_setaffinity(0, cores_of(worker, workers, cores))


def cores_of(worker: int, workers: int, cores: list[int]) -> list[int]:
    """The share of a worker: neighbouring cores; with more workers than cores several have the same one."""
    if workers >= len(cores):
        return [cores[worker % len(cores)]]
    return cores[worker * len(cores) // workers : (worker + 1) * len(cores) // workers]


_DENIED = {
    "AVX2": ("avx512", "amx", "avx_vnni"),
    "AVX2_VNNI": ("avx512", "amx"),
    "AVX512_CORE": ("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx"),
    "AVX512_CORE_VNNI": ("avx512_bf16", "avx512_fp16", "amx"),
    "AVX512_CORE_BF16": ("avx512_fp16", "amx"),
    "AVX512_CORE_FP16": ("amx",),
}
"""Beginnings of the names of instruction sets that a value of ONEDNN_MAX_CPU_ISA denies."""


def instruction_sets() -> frozenset[str]:
    """Instruction sets of an x86 CPU by the names that Linux gives them, as `avx2`; empty where it gives none.

    Those that ONEDNN_MAX_CPU_ISA denies to oneDNN, which computes for us, are left out.
    """
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    denied = _DENIED.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper(), ())
    sets = described.partition("flags")[2].partition("\n")[0].split()
    return frozenset(name for name in sets if not name.startswith(denied))


def cpu_name() -> str:
    """The name that the CPU gives itself, with what it may use of the instruction sets that matter for speed."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        described = ""
    name = described.partition("model name")[2].partition("\n")[0].strip(": \t") or "CPU"
    return " ".join([name, *sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & instruction_sets())])


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
