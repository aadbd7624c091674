"""How many ranks and threads are taken: what was measured, where that was worth it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radflow.cluster.hosts import Host
from radflow.scaling import layouts
from radflow.scaling.layouts import Layout, settle_ranks, settle_threads
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.training.plan import TrainingFilms, TrainingPlan, plan_ranks

FILMS = TrainingFilms("films", image_size=64, count=4_000)
LONG = DistributedConfig(gbz=64, epochs=200)


class Machine:
    """Eight cores, of which other processes use some, and the speed of each layout there."""

    def __init__(self) -> None:
        self.busy = 0.0
        self.speeds = {Layout(8, 1): 90.0, Layout(4, 2): 110.0, Layout(2, 4): 100.0}
        self.speeds |= {Layout(1, 8): 70.0, Layout(1, 4): 80.0, Layout(1, 2): 60.0}
        self.measured: list[Layout] = []

    def measure(self, plan: TrainingPlan, layout: Layout, largest_local_batch: int) -> float:
        assert (plan.films, largest_local_batch) == (FILMS, 64)
        self.measured.append(layout)
        return self.speeds[layout]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(layouts, "available_cores", lambda: 8)
    monkeypatch.setattr(layouts, "_measure", machine.measure)
    monkeypatch.setattr(layouts.psutil, "cpu_percent", lambda interval: machine.busy)
    return machine


def test_a_long_training_takes_the_fastest_which_is_measured_once(machine: Machine) -> None:
    settled = settle_ranks(LONG, FILMS, may_measure=True)
    assert (settled.np, settled.threads) == (4, 2)
    assert sorted(machine.measured, key=str) == [Layout(2, 4), Layout(4, 2), Layout(8, 1)]
    machine.measured.clear()
    assert settle_ranks(LONG, FILMS, may_measure=True) == settled
    assert settle_ranks(replace(LONG, epochs=1), FILMS, may_measure=True).np == 4  # a short one, of what is known
    assert settle_ranks(LONG, FILMS, may_measure=False) == settled  # as `plan` shows it
    assert not machine.measured


def test_one_process_takes_the_fastest_threads(machine: Machine) -> None:
    config = TrainConfig(bz=64, epochs=200)
    assert settle_threads(config, FILMS, 64, 64, may_measure=True).threads == 4
    assert [layout.ranks for layout in machine.measured] == [1, 1, 1]


def test_what_was_measured_of_another_training_says_nothing(machine: Machine) -> None:
    settle_ranks(LONG, FILMS, may_measure=True)
    for other in (replace(LONG, gbz=128), replace(LONG, model=replace(LONG.model, arch="vgg16"))):
        assert settle_ranks(other, FILMS, may_measure=False) == other


@pytest.mark.parametrize(
    "given",
    [{"np": 2}, {"threads": 2}, {"threads": 0}, {"hosts": "localhost:8"}, {"hosts": "node1:4,node2:4"}, {"epochs": 1}],
)
def test_what_is_given_stays_and_a_short_training_is_not_kept_waiting(machine: Machine, given: dict) -> None:
    config = replace(LONG, **given)
    assert settle_ranks(config, FILMS, may_measure=True) == config
    assert not machine.measured


def test_nothing_is_measured_beside_other_work(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.busy = 55.0
    assert settle_ranks(LONG, FILMS, may_measure=True) == LONG
    assert not machine.measured
    assert "55 % of the cores are busy" in caplog.text


def test_ranks_that_do_not_divide_the_global_batch_are_not_measured(machine: Machine) -> None:
    settled = settle_ranks(replace(LONG, gbz=4 * 63), FILMS, may_measure=True)
    assert settled.np == 4
    assert Layout(8, 1) not in machine.measured


def test_a_layout_that_fails_is_left_out_and_not_tried_again(machine: Machine) -> None:
    machine.speeds[Layout(4, 2)] = 0.0
    assert settle_ranks(LONG, FILMS, may_measure=True).np == 2
    machine.measured.clear()
    assert settle_ranks(LONG, FILMS, may_measure=True).np == 2
    assert not machine.measured


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "fast"}', "null"])
def test_a_damaged_file_is_measured_again(machine: Machine, tmp_path: Path, content: str) -> None:
    (tmp_path / "layouts.json").write_text(content)
    assert settle_ranks(LONG, FILMS, may_measure=True).np == 4


def test_gpus_and_allocations_are_left_to_the_scheduler(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(layouts, "usable_gpus", lambda: [0, 1])
        assert settle_ranks(LONG, FILMS, may_measure=True) == LONG
    monkeypatch.setattr(layouts, "parse_hosts", lambda hosts: [Host("node1", 8), Host("node2", 8)])
    assert settle_ranks(LONG, FILMS, may_measure=True) == LONG
    assert not machine.measured


@pytest.mark.slow
def test_ranks_measure_their_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path))
    config = DistributedConfig(gbz=16, epochs=1)
    config = replace(config, model=replace(config.model, arch="vgg16"))
    plan = plan_ranks(config, TrainingFilms("films", image_size=32, count=100))
    for layout in (Layout(2, 1), Layout(1, 2)):
        speed = layouts._measure(plan, layout, largest_local_batch=8)
        assert 1 < speed < 1e5
    monkeypatch.setattr(layouts.sys, "executable", "/bin/false")
    assert layouts._measure(plan, Layout(1, 2), largest_local_batch=8) == 0.0
