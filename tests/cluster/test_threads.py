from __future__ import annotations

import os
import subprocess
import sys

import pytest

from radflow.cluster.threads import choose_precision, choose_threads, supports_bfloat16, thread_environment
from radflow.cpu import available_cores, instruction_sets
from radflow.errors import UserError


def test_ranks_share_the_cores():
    assert choose_threads(0, cores=40, ranks_on_node=2) == 20  # the paper's nodes
    assert choose_threads(0, cores=2, ranks_on_node=4) == 1
    assert choose_threads(3, cores=2, ranks_on_node=1) == 3
    with pytest.raises(UserError, match="threads=-1"):
        choose_threads(-1, cores=2, ranks_on_node=1)


def test_who_turns_onednn_off_has_it_off_in_every_rank(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert thread_environment(1)["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert thread_environment(1)["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_cores_are_those_of_the_affinity_and_not_of_the_machine():
    """A process bound to one core, as under mpirun, counts one."""
    code = "from radflow.cpu import available_cores; print(available_cores())"
    first = min(os.sched_getaffinity(0))
    bound = subprocess.run(["taskset", "-c", str(first), sys.executable, "-c", code], capture_output=True, text=True)
    assert bound.stdout.strip() == "1"
    assert available_cores() <= len(os.sched_getaffinity(0))


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
