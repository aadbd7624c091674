"""Entry point `search`: hyper-parameters of large-batch training by Optuna."""

import sys

from radflow.config import run_command
from radflow.search.config import SearchConfig


def main(config: SearchConfig) -> None:
    """Found the study and run its workers; in a process that was started as a worker, be one."""
    from radflow.commands.search import search

    search(config)


if __name__ == "__main__":
    sys.exit(run_command(SearchConfig, main, sys.argv[1:]))
