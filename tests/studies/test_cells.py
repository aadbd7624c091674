"""Which cells come next, what they are told, and when two are the same."""

from __future__ import annotations

import os

import pytest
from study_cells import diverged, result_of

from radflow.errors import UserError
from radflow.studies.cells import Cell, CellResult, identity, next_cells, training_of
from radflow.studies.experiment import Arm, AtMostRanks, ImageNet, ModelOf, Protocol
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.transfer.config import TransferConfig

PLAIN = Arm("plain", {"gbz": 32})
TUNED = Arm("tuned", {"optimizer": "sgd"}, rates=(0.1, 0.2, 0.3))
BODY = Arm("body", {"gbz": 16})
CROPS = Arm("crops", {"source": ModelOf("body")}, "transfer")


def titles(cells: list[Cell]) -> list[str]:
    return [cell.title for cell in cells]


def test_each_arm_is_trained_with_each_seed_and_nothing_twice() -> None:
    protocol = Protocol((PLAIN, BODY), seeds=2)
    cells = next_cells(protocol, [], 2)
    assert titles(cells) == ["plain, seed 0", "plain, seed 1", "body, seed 0", "body, seed 1"]
    results = [result_of(cell) for cell in cells[:3]]
    assert titles(next_cells(protocol, results, 2)) == ["body, seed 1"]
    assert next_cells(protocol, [*results, result_of(cells[3])], 2) == []


def test_the_rate_of_the_highest_validation_auc_is_for_all_seeds() -> None:
    protocol = Protocol((TUNED,), seeds=3)
    trials = next_cells(protocol, [], 3)
    assert [(cell.seed, cell.rate) for cell in trials] == [(0, 0.1), (0, 0.2), (0, 0.3)]
    skills = {0.1: 1.0, 0.2: 2.0}
    results = [result_of(cell, skills[cell.rate]) if cell.rate in skills else diverged(cell) for cell in trials]
    assert next_cells(protocol, results[:2], 3) == [trials[2]]
    later = next_cells(protocol, results, 3)
    assert [(cell.seed, cell.rate) for cell in later] == [(1, 0.2), (2, 0.2)]


def test_an_optimiser_that_diverges_at_every_rate_is_left_alone() -> None:
    protocol = Protocol((TUNED,), seeds=3)
    assert next_cells(protocol, [diverged(cell) for cell in next_cells(protocol, [], 3)], 3) == []


def test_an_arm_waits_for_the_model_that_it_starts_from() -> None:
    protocol = Protocol((BODY, CROPS), seeds=2)
    bodies = next_cells(protocol, [], 2)
    assert {cell.arm for cell in bodies} == {BODY}
    results = [result_of(bodies[0]), diverged(bodies[1])]
    crops = next_cells(protocol, results, 2)
    assert titles(crops) == ["crops, seed 0"]
    told = training_of(crops[0], {}, results, {})
    assert isinstance(told, TransferConfig)
    assert told.source == f"runs:/{results[0].run_id}/model"


def test_a_training_is_told_what_its_entry_point_has_and_its_arms_own_settings_win() -> None:
    shared = {"np": 2, "gbz": 256, "optimizer": "adam", "epochs": 3}
    ranks = training_of(Cell(PLAIN, 4), shared, (), {})
    assert isinstance(ranks, DistributedConfig)
    assert (ranks.np, ranks.gbz, ranks.epochs, ranks.seed, ranks.resume) == (2, 32, 3, 4, "auto")
    single = training_of(Cell(Arm("single", {"bz": 8}, "train"), 0), shared, (), {})
    assert isinstance(single, TrainConfig)
    assert (single.bz, single.optim.optimizer) == (8, "adam")
    assert training_of(Cell(TUNED, 0, 0.2), shared, (), {}).optim.base_lr == 0.2


def test_imagenets_weights_are_the_users_file_or_keras_own() -> None:
    arm = Arm("vgg", {"arch": "vgg16", "weights": ImageNet()})
    assert training_of(Cell(arm, 0), {}, (), {"vgg16": "vgg.weights.h5"}).model.weights == "vgg.weights.h5"
    assert training_of(Cell(arm, 0), {}, (), {"resnet50": "other.weights.h5"}).model.weights == "imagenet"


@pytest.mark.parametrize(
    ("hosts", "np", "ranks"), [("a:64,b:64", "auto", 32), ("a:8,b:8", "auto", 16), ("a:3", "auto", 2), ("a:64", 8, 8)]
)
def test_ranks_are_as_many_as_the_paper_had_or_as_there_are(hosts: str, np: object, ranks: int) -> None:
    arm = Arm("GBZ 512, LBZ 16", {"gbz": 512, "lbz": 16, "np": AtMostRanks(32)})
    told = training_of(Cell(arm, 0), {"hosts": hosts, "np": np}, (), {})
    assert isinstance(told, DistributedConfig)
    assert told.np == ranks


@pytest.mark.parametrize("gbz", [64, 45])
def test_ranks_that_the_machine_decides_are_part_of_a_cell(gbz: int) -> None:
    """Ranks normalise their own films, so that one rank and two do not compute the same."""
    cell, cores = Cell(Arm("plain", {"gbz": gbz}), 0), len(os.sched_getaffinity(0))
    ranks = max(count for count in range(1, cores + 1) if gbz % count == 0)
    decided, given = (training_of(cell, {"np": np}, (), {}) for np in ("auto", ranks))
    assert identity(decided, "distributed", "films") == identity(given, "distributed", "films")
    assert decided.np == "auto"  # a host that is lost may be left out  # type: ignore[attr-defined]


def test_what_a_training_does_not_accept_is_a_mistake() -> None:
    with pytest.raises(UserError, match="gbz=0"):
        training_of(Cell(Arm("none", {"gbz": 0}), 0), {}, (), {})


def test_cells_are_the_same_by_settings_machines_and_films_and_not_by_name() -> None:
    def number(arm: Arm, seed: int = 0, digest: str = "films", **shared: object) -> str:
        training = training_of(Cell(arm, seed), {"hosts": "a:2", "np": 1, **shared}, (), {})
        return identity(training, arm.entry_point, digest)

    same = number(PLAIN)
    assert number(Arm("another name", {"gbz": 32})) == same
    others = [
        number(PLAIN, seed=1), number(PLAIN, digest="others"), number(PLAIN, np=2), number(PLAIN, epochs=2),
        number(Arm("plain", {"gbz": 64})),
    ]  # fmt: skip
    assert len({same, *others}) == 6


def test_names_of_folders_need_no_quoting() -> None:
    cell = Cell(Arm("GBZ 512, LBZ 4 (auto)", {}), 2, 0.004)
    assert cell.slug == "gbz-512-lbz-4-auto-rate-0.004-seed-2"


def test_the_best_epoch_is_the_lowest_loss_or_the_highest_other() -> None:
    cell = Cell(PLAIN, 0)
    history = (
        {"val/loss": 0.4, "val/auc/mean": 0.7},
        {"val/loss": 0.3},
        {"val/loss": float("nan"), "val/auc/mean": 0.6},
    )
    result = CellResult(cell, "run", history, None, {})
    assert (result.best("val/loss"), result.best("val/auc/mean")) == (0.3, 0.7)
    assert result.has_diverged
