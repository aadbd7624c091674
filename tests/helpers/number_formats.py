"""What float32 and bfloat16 leave open: rounding that depends on the way of a computation, and on the CPU."""

from __future__ import annotations

import os

import pytest

FLOAT32_ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
"""Graphs fuse what eager calls round one by one, and sums run otherwise in other batches: some units of 2^-23 each."""

needs_bfloat16 = pytest.mark.skipif(
    os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2", "AVX2_VNNI"),
    reason="ONEDNN_MAX_CPU_ISA denies oneDNN bfloat16, and TensorFlow, which asks the CPU only, gives it no other way",
)
