"""The number format follows the CPU, and the policy of a block ends with it."""

from __future__ import annotations

import keras
import pytest

from radflow.cpu import instruction_sets
from radflow.models.precision import choose_precision, dtype_policy, supports_bfloat16


@pytest.mark.parametrize("cap", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_what_onednn_is_denied_is_not_counted_on(cap, monkeypatch: pytest.MonkeyPatch):
    """TensorFlow aborts where bfloat16 is asked of a oneDNN that must not use the CPU's own."""
    before = instruction_sets()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert instruction_sets() <= before
    assert choose_precision("auto") == "float32"
    assert ("avx2" in instruction_sets()) == ("avx2" in before)


def test_precision_auto_follows_the_cpu_and_a_given_one_stays():
    assert choose_precision("auto") == ("mixed_bfloat16" if supports_bfloat16() else "float32")
    assert choose_precision("mixed_bfloat16") == "mixed_bfloat16"


def test_policy_ends_with_its_block_however_that_ends():
    before = keras.config.dtype_policy().name
    with pytest.raises(ZeroDivisionError), dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise ZeroDivisionError
    assert keras.config.dtype_policy().name == before
