"""What ranks are told beside their command."""

from __future__ import annotations

import pytest

from radflow.training.restarts import variables_of


def test_sums_that_each_layer_waits_for_are_looked_for_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOROVOD_CYCLE_TIME", raising=False)
    assert float(variables_of("sync_batch")["HOROVOD_CYCLE_TIME"]) < 1  # milliseconds; Horovod's own is 1
    assert variables_of("batch") == {}
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "5")
    assert variables_of("sync_batch")["HOROVOD_CYCLE_TIME"] == "5"
