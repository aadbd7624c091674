"""MPI must find the texts of its own messages, or a rank that cannot join says nothing but "Sorry!"."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_rank_that_mpi_refuses_says_why() -> None:
    """Started by a scheduler, not by mpirun, which would tell its ranks where MPI is."""
    code = "from radflow.cluster.communicator import HorovodCommunicator; HorovodCommunicator()"
    variables = {"PMIX_MCA_gds": "no-such-component", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode
    assert "no-such-component" in ended.stderr
    assert "Sorry!" not in ended.stderr
