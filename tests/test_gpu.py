"""GPUs, with nvidia-smi replaced: no test runs on real ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radflow import gpu
from radflow.cluster.hosts import choose_ranks, parse_hosts
from radflow.errors import UserError
from radflow.gpu import usable_gpus
from radflow.models.precision import choose_precision

AMPERE = "0, GPU-aa11, NVIDIA A100-SXM4-80GB, 8.0\n1, GPU-bb22, NVIDIA A100-SXM4-80GB, 8.0\n"
VOLTA = "0, GPU-cc33, Tesla V100-SXM2-16GB, 7.0\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts an nvidia-smi on PATH that answers what a test says, beside a TensorFlow for GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "installed_versions", lambda packages: dict.fromkeys(packages, "2.21.0"))

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        usable_gpus.cache_clear()

    yield install
    usable_gpus.cache_clear()


def answer(text: str) -> str:
    return f"cat <<'END'\n{text}END"


@pytest.mark.parametrize(
    ("answered", "precision"), [(AMPERE, "mixed_bfloat16"), (VOLTA, "float32"), (AMPERE + VOLTA, "float32")]
)
def test_precision_follows_from_the_oldest_gpu(driver: Callable[[str], None], answered: str, precision: str) -> None:
    driver(answer(answered))
    assert choose_precision("auto") == precision
    assert choose_precision("float32") == "float32"


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0", 1), ("1,0", 2), ("GPU-bb", 1), ("", 0), ("-1", 0), ("0,7,1", 1)],
)
def test_only_visible_gpus_are_used(driver, monkeypatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver(answer(AMPERE))
    assert len(usable_gpus()) == count


def test_a_rank_a_gpu(driver: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    driver(answer(AMPERE))
    assert choose_ranks("auto", parse_hosts(""), 4096) == 2
    with pytest.raises(UserError, match=r"np=3 .* lower np to a rank a GPU"):
        choose_ranks(3, parse_hosts(""), 4096)


def test_a_driver_that_fails_is_told(driver: Callable[[str], None]) -> None:
    driver("echo 'NVIDIA-SMI has failed because the driver is off'; exit 9")
    with pytest.raises(UserError, match=r"nvidia-smi fails \(NVIDIA-SMI has failed because the driver is off\); "):
        usable_gpus()


def test_the_cpu_wheel_uses_no_gpus(driver, monkeypatch) -> None:
    driver("exit 9")
    monkeypatch.setattr(gpu, "installed_versions", lambda packages: {})
    assert usable_gpus() == ()
