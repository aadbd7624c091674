"""Entry point `preprocess`: films as released -> a data set on disk, with its counts in MLflow."""

import sys

from radflow.config import run_command
from radflow.data.config import PreprocessConfig


def main(config: PreprocessConfig) -> None:
    """Preprocess inside an MLflow run."""
    from radflow.commands.preprocess import prepare

    prepare(config)


if __name__ == "__main__":
    sys.exit(run_command(PreprocessConfig, main, sys.argv[1:]))
