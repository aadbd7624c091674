"""Entry point `distributed`: starts the ranks, or is one of them."""

import sys

from radflow.config import run_command
from radflow.training.config import DistributedConfig


def main(config: DistributedConfig) -> None:
    """Launch the ranks; in a process that a launcher has started, be a rank."""
    from radflow.commands.distributed import train_distributed

    train_distributed(config)


if __name__ == "__main__":
    sys.exit(run_command(DistributedConfig, main, sys.argv[1:]))
