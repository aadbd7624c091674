"""Entry point `train`: one process, one model."""

import sys

from radflow.config import run_command
from radflow.training.config import TrainConfig


def main(config: TrainConfig) -> None:
    """Set the threads, then import TensorFlow and train."""
    from radflow.commands.distributed import train

    train(config)


if __name__ == "__main__":
    sys.exit(run_command(TrainConfig, main, sys.argv[1:]))
