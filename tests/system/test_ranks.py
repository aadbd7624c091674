"""What ranks do together, in two processes: predict a split, compare weights, and fail as one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from checks_of_a_rank import COUNTS
from commands import REPOSITORY
from small_classifier import random_films, small_classifier

from radflow.cluster.hosts import Host
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch

pytestmark = pytest.mark.slow


def test_ranks_predict_a_split_together_and_stop_where_weights_differ(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = [sys.executable, str(Path(__file__).with_name("checks_of_a_rank.py")), str(tmp_path)]
    path = f"{REPOSITORY}:{REPOSITORY / 'tests' / 'helpers'}"
    job = RankJob(line, 2, [Host("localhost", 2)], threads=1, variables={"PYTHONPATH": path})
    code = prepare_launch("mpirun", job).run().code
    told = capfd.readouterr().err
    expected = small_classifier()(random_films(max(COUNTS))).numpy()
    for rank in range(2):
        for count in COUNTS:
            predicted = np.load(tmp_path / f"rank{rank}-films{count}.npy")
            np.testing.assert_allclose(predicted, expected[:count], rtol=1e-5)
    # One bit of each weight is enough to stop all ranks, and one of them says so.
    assert {path.name for path in tmp_path.glob("rank?-[!f]*")} == {"rank0-equal", "rank1-equal"}
    assert code == 1
    assert told.count("failed: the weights of ranks [1] differ from those of rank 0") == 1
    assert "Traceback" not in told
