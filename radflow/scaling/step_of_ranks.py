"""What a rank runs to measure a training step: `python -m radflow.scaling.step_of_ranks`, started by `layouts`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from radflow.cluster.launchers.secrets_file import take_secrets
from radflow.cluster.launchers.started_ranks import is_rank, ranks_on_this_node
from radflow.cluster.threads import set_threads
from radflow.config import run_command
from radflow.files import atomic_file
from radflow.scaling.config import StepConfig
from radflow.terminal import import_tensorflow


def measure_as_rank(config: StepConfig) -> None:
    """Measure with the other ranks, or alone; the first writes what came out."""
    take_secrets()
    set_threads(config.threads, ranks_on_this_node())
    import_tensorflow()
    from radflow.cluster.communicator import Communicator, HorovodCommunicator, SerialCommunicator
    from radflow.scaling.measurement import measure_training_step

    communicator: Communicator = HorovodCommunicator() if is_rank() else SerialCommunicator()
    step = measure_training_step(config, communicator)

    def write() -> None:
        with atomic_file(Path(config.out)) as partial:
            partial.write_text(json.dumps(asdict(step)), encoding="utf-8")

    communicator.on_first_rank(write)


if __name__ == "__main__":
    sys.exit(run_command(StepConfig, measure_as_rank, sys.argv[1:]))
