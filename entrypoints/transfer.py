"""Entry point `transfer`: mammograms on a body that has learned from other films, or with and without one."""

import sys

from radflow.config import run_command
from radflow.transfer.config import TransferConfig


def main(config: TransferConfig) -> None:
    """Train once, or compare."""
    from radflow.commands.transfer import transfer

    transfer(config)


if __name__ == "__main__":
    sys.exit(run_command(TransferConfig, main, sys.argv[1:]))
