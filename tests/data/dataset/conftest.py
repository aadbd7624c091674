"""Shards of a few films."""

import pytest

from radflow.data.dataset import shards


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 7)
