"""How many ranks and threads are taken: what was measured, where that was worth it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radflow.cluster import hosts
from radflow.cluster.hosts import Host
from radflow.scaling import layouts
from radflow.scaling.layouts import Layout, plan_process_here, plan_ranks_here
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.training.plan import TrainingFilms, TrainingPlan, plan_ranks, plan_rows

FILMS = TrainingFilms("films", image_size=64, count=4_000)
LONG = DistributedConfig(gbz=64, epochs=200)


class Machine:
    """Eight cores, of which other processes use some, and the seconds of a step of each layout there."""

    def __init__(self) -> None:
        self.busy = 0.0
        # With LBZ 8, 16, 32 on 8, 4, 2 ranks: 91, 107, 98 images/s. In one process with LBZ 64: 71, 80, 61.
        self.steps = {Layout(8, 1): _step(0.6, 0.7), Layout(4, 2): _step(0.5, 0.6), Layout(2, 4): _step(0.6, 0.65)}
        self.steps |= {Layout(1, 8): _step(0.8, 0.9), Layout(1, 4): _step(0.7, 0.8), Layout(1, 2): _step(1.0, 1.05)}
        self.measured: list[tuple[Layout, int]] = []

    def measure(self, plan: TrainingPlan, layout: Layout, local_batch: int) -> dict[str, float]:
        assert plan.films == FILMS
        self.measured.append((layout, local_batch))
        return self.steps[layout]


def _step(computing: float, whole: float) -> dict[str, float]:
    return {"computing": computing, "whole": whole}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path))
    for module in (layouts, hosts):
        monkeypatch.setattr(module, "available_cores", lambda: 8)
    monkeypatch.setattr(layouts, "_measure", machine.measure)
    monkeypatch.setattr(layouts.psutil, "cpu_percent", lambda interval: machine.busy)
    return machine


def test_a_long_training_takes_the_fastest_which_is_measured_once(machine: Machine) -> None:
    plan = plan_ranks_here(LONG, FILMS, may_measure=True)
    assert (plan.batches.ranks, plan.config.threads) == (4, 2)
    assert sorted(machine.measured, key=str) == [(Layout(2, 4), 32), (Layout(4, 2), 16), (Layout(8, 1), 8)]
    machine.measured.clear()
    assert plan_ranks_here(LONG, FILMS, may_measure=True) == plan
    short = plan_ranks_here(replace(LONG, epochs=1), FILMS, may_measure=True)
    assert short.batches.ranks == 4  # of what is known
    assert plan_ranks_here(LONG, FILMS, may_measure=False) == plan  # as `plan` shows it
    assert not machine.measured


def test_the_plan_says_how_long_it_will_take_by_what_was_measured(machine: Machine) -> None:
    # 512 films take 8 ranks .7 s, 4 ranks of 2 micro-steps 1.1 s; 800,000 films then take 18.2 minutes.
    plan = plan_ranks_here(replace(LONG, gbz=512), FILMS, may_measure=True)
    assert plan.measured_speed == pytest.approx(512 / 0.7)
    rows = {what: (value, why) for what, value, why in plan_rows(plan)}
    assert rows["expected time"] == ("about 18 minutes", "800,000 films at the 731 images/s measured on this machine")


def test_one_process_takes_the_fastest_threads(machine: Machine) -> None:
    plan = plan_process_here(TrainConfig(bz=64, epochs=200), FILMS, 64, 64, may_measure=True)
    assert plan.config.threads == 4
    assert plan.measured_speed == pytest.approx(64 / 0.8)
    assert [layout.ranks for layout, _ in machine.measured] == [1, 1, 1]


def test_a_larger_global_batch_of_the_same_local_ones_is_not_measured_again(machine: Machine) -> None:
    plan_ranks_here(replace(LONG, gbz=512), FILMS, may_measure=True)
    machine.measured.clear()
    plan = plan_ranks_here(replace(LONG, gbz=2048), FILMS, may_measure=True)
    assert plan.measured_speed == pytest.approx(2048 / (4 * 0.6 + 0.1))
    assert not machine.measured


def test_what_was_measured_of_another_training_says_nothing(machine: Machine) -> None:
    plan_ranks_here(LONG, FILMS, may_measure=True)
    for other in (replace(LONG, gbz=128), replace(LONG, model=replace(LONG.model, arch="vgg16"))):
        assert plan_ranks_here(other, FILMS, may_measure=False) == plan_ranks(other, FILMS)


@pytest.mark.parametrize(
    "given",
    [{"np": 2}, {"threads": 2}, {"threads": 0}, {"hosts": "localhost:8"}, {"hosts": "node1:4,node2:4"}, {"epochs": 1}],
)
def test_what_is_given_stays_and_a_short_training_is_not_kept_waiting(machine: Machine, given: dict) -> None:
    config = replace(LONG, **given)
    assert plan_ranks_here(config, FILMS, may_measure=True) == plan_ranks(config, FILMS)
    assert not machine.measured


def test_nothing_is_measured_beside_other_work(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.busy = 55.0
    assert plan_ranks_here(LONG, FILMS, may_measure=True) == plan_ranks(LONG, FILMS)
    assert not machine.measured
    assert "55 % of the cores are busy" in caplog.text


def test_ranks_that_do_not_divide_the_global_batch_are_not_measured(machine: Machine) -> None:
    plan = plan_ranks_here(replace(LONG, gbz=4 * 63), FILMS, may_measure=True)
    assert plan.batches.ranks == 4
    assert Layout(8, 1) not in [layout for layout, _ in machine.measured]


def test_a_layout_that_fails_is_left_out_and_not_tried_again(machine: Machine) -> None:
    machine.steps[Layout(4, 2)] = {}
    assert plan_ranks_here(LONG, FILMS, may_measure=True).batches.ranks == 2
    machine.measured.clear()
    assert plan_ranks_here(LONG, FILMS, may_measure=True).batches.ranks == 2
    assert not machine.measured


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "fast"}', '{"a": {"computing": 1}}', "null"])
def test_a_damaged_file_is_measured_again(machine: Machine, tmp_path: Path, content: str) -> None:
    (tmp_path / "layouts.json").write_text(content)
    assert plan_ranks_here(LONG, FILMS, may_measure=True).batches.ranks == 4


def test_gpus_and_allocations_are_left_to_the_scheduler(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(layouts, "usable_gpus", lambda: [0, 1])
        assert plan_ranks_here(LONG, FILMS, may_measure=True) == plan_ranks(LONG, FILMS)
    monkeypatch.setattr(layouts, "parse_hosts", lambda hosts: [Host("node1", 8), Host("node2", 8)])
    assert plan_ranks_here(LONG, FILMS, may_measure=True) == plan_ranks(LONG, FILMS)
    assert not machine.measured


@pytest.mark.slow
def test_ranks_measure_their_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADFLOW_CACHE", str(tmp_path))
    config = DistributedConfig(gbz=16, epochs=1)
    config = replace(config, model=replace(config.model, arch="vgg16"))
    plan = plan_ranks(config, TrainingFilms("films", image_size=32, count=100))
    for layout in (Layout(2, 1), Layout(1, 2)):
        step = layouts._measure(plan, layout, local_batch=8)
        assert 1e-4 < step["computing"] < step["whole"] < 10
    monkeypatch.setattr(layouts.sys, "executable", "/bin/false")
    assert layouts._measure(plan, Layout(1, 2), local_batch=8) == {}
