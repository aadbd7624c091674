"""N ranks x LBZ = 1 rank x GBZ: how a global batch is spread changes neither losses nor weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY
from steps_with_batch_norm import train

from radflow.cluster.communicator import SerialCommunicator
from radflow.cluster.hosts import Host
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch

pytestmark = pytest.mark.slow
needs_amx = pytest.mark.skipif(
    "amx_bf16" not in Path("/proc/cpuinfo").read_text(), reason="this CPU has one way only to compute in bfloat16"
)

STEPS = 5


def train_steps(workplace: Path, out: Path, ranks: int, *local_batches: int | str) -> None:
    """Five steps of 16 films for each local batch, as 8 or 8/float16; every rank writes what became of it to `out`."""
    arguments = [str(workplace / "dataset"), "16", str(STEPS), str(out), *map(str, local_batches)]
    run_as_ranks(ranks, "steps_of_a_rank.py", *arguments)


def run_as_ranks(ranks: int, program: str, *arguments: str) -> None:
    line = [sys.executable, str(Path(__file__).parent / program), *arguments]
    job = RankJob(line, ranks, [Host("localhost", ranks)], threads=1, variables={"PYTHONPATH": str(REPOSITORY)})
    assert prepare_launch("mpirun", job).run().code == 0


def ranks_of(out: Path, spread: str) -> list[dict]:
    """Losses and weights of every rank."""
    return [json.loads(path.read_text()) for path in sorted((out / spread).glob("rank*.json"))]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def changes_of_weights(out: Path, spread: str) -> np.ndarray:
    """What training has added to every weight of the first rank, in one vector."""
    return np.load(out / spread / "changes0.npy").astype(np.float64)


def test_losses_do_not_depend_on_ranks_and_micro_steps(workplace: Path, tmp_path: Path) -> None:
    train_steps(workplace, tmp_path, 1, 16, 4)
    train_steps(workplace, tmp_path, 2, 8)
    (alone,), two, (in_micro_steps,) = (ranks_of(tmp_path, spread) for spread in ("1x16x1", "2x8x1", "1x4x4"))
    assert len(two) == 2
    assert two[0]["weights"] == two[1]["weights"]
    assert two[0]["losses"] == two[1]["losses"]
    np.testing.assert_allclose(two[0]["losses"], alone["losses"], rtol=1e-4)
    np.testing.assert_allclose(in_micro_steps["losses"], alone["losses"], rtol=1e-4)
    # Losses of five small steps hardly tell whether gradients were scaled right; the change of the weights does.
    expected = changes_of_weights(tmp_path, "1x16x1")
    assert np.linalg.norm(expected) > 0
    for spread in ("2x8x1", "1x4x4"):
        difference = np.linalg.norm(changes_of_weights(tmp_path, spread) - expected)
        assert difference < 1e-3 * np.linalg.norm(expected), spread


def test_gradients_that_travel_as_float16_move_the_weights_alike_to_a_thousandth(
    workplace: Path, tmp_path: Path
) -> None:
    train_steps(workplace, tmp_path, 2, 8, "8/float16")
    as_float32, as_float16 = (ranks_of(tmp_path, spread) for spread in ("2x8x1", "2x8x1float16"))
    assert as_float16[0]["weights"] == as_float16[1]["weights"] != as_float32[0]["weights"]
    expected = changes_of_weights(tmp_path, "2x8x1")
    difference = np.linalg.norm(changes_of_weights(tmp_path, "2x8x1float16") - expected)
    assert difference < 1e-3 * np.linalg.norm(expected)


def test_synchronised_batch_norm_on_two_ranks_is_batch_norm_on_one(tmp_path: Path) -> None:
    """Losses, weights and moving statistics after five steps, to float tolerance; plain batch norm is far off."""
    run_as_ranks(2, "steps_with_batch_norm.py", str(tmp_path))
    alone = train(SerialCommunicator(), synchronized=False)
    for rank in range(2):
        together, apart = (read_arrays(tmp_path / f"{kind}{rank}.npz") for kind in ("synchronized", "plain"))
        for name, expected in alone.items():
            np.testing.assert_allclose(together[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)
        assert not np.allclose(apart["losses"], alone["losses"], rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_amx)])
def test_ranks_on_unlike_cpus_have_the_same_weights_after_updates_of_muon(dtype: str, tmp_path: Path) -> None:
    """One rank has another instruction set and number of threads, so that its products round differently."""
    run_as_ranks(2, "muon_of_a_rank.py", str(tmp_path), dtype)
    shared, alone = (
        [read_arrays(tmp_path / f"{name}-{dtype}-{rank}.npz") for rank in range(2)] for name in ("shared", "alone")
    )
    assert any((alone[0][place] != alone[1][place]).any() for place in alone[0]), "the CPUs are alike"
    for place, weights in shared[0].items():
        np.testing.assert_array_equal(weights, shared[1][place])
        np.testing.assert_allclose(weights, alone[0][place], atol=1e-4 if dtype == "float32" else 3e-2)
