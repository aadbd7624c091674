"""The GPU of each rank, with TensorFlow's devices replaced: no test runs on real ones."""

from __future__ import annotations

import pytest
import tensorflow as tf

from radflow.cluster.devices import take_gpu
from radflow.errors import UserError


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What TensorFlow is told of its devices."""
    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda device, kind: calls.append((kind, device)))
    growth = lambda device, grows: calls.append((f"growth {grows}", device))  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", growth)
    return calls


def devices(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(names) if kind == "GPU" else [])


def test_each_rank_of_a_machine_sees_one_gpu_and_takes_its_memory_as_it_needs(monkeypatch, taken) -> None:
    devices(monkeypatch, "gpu0", "gpu1")
    take_gpu(1, 2)
    assert taken == [("GPU", "gpu1"), ("growth True", "gpu1")]


def test_a_gpu_that_the_scheduler_has_bound_is_taken_whatever_the_number_of_the_rank(monkeypatch, taken) -> None:
    devices(monkeypatch, "its own")
    take_gpu(3, 4)
    assert taken[0] == ("GPU", "its own")


def test_more_ranks_than_gpus_are_a_mistake_and_none_is_no_matter(monkeypatch, taken) -> None:
    devices(monkeypatch, "gpu0", "gpu1")
    with pytest.raises(UserError, match="4 ranks on a machine with 2 GPUs"):
        take_gpu(0, 4)
    devices(monkeypatch)
    take_gpu(0, 4)
    assert taken == []
