"""The number format that networks compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from radflow.cpu import instruction_sets
from radflow.gpu import BFLOAT16_CAPABILITY, usable_gpus


def supports_bfloat16() -> bool:
    """Whether what computes here multiplies bfloat16 in hardware; where it does not, bf16 is slower than float32.

    That is the GPUs, each from Ampere on, or the CPU (AVX512-BF16 or AMX) where there is none.
    """
    if gpus := usable_gpus():
        return all(gpu.capability >= BFLOAT16_CAPABILITY for gpu in gpus)
    return not instruction_sets().isdisjoint({"avx512_bf16", "amx_bf16"})


def choose_precision(precision: str) -> str:
    """The Keras dtype policy: `auto` is mixed_bfloat16 where the hardware has it and float32 elsewhere."""
    if precision == "auto":
        return "mixed_bfloat16" if supports_bfloat16() else "float32"
    return precision


@contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Let layers that are built in the block have this Keras dtype policy, unless they are given another."""
    import keras  # a plan chooses its precision without it

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
