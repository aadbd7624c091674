"""Entry point `sample`: phantom chest films or mammograms in the layout of the real releases."""

import sys

from radflow.config import run_command
from radflow.data.sample import SampleConfig


def main(config: SampleConfig) -> None:
    """Draw films inside an MLflow run."""
    from radflow.commands.preprocess import draw_films

    draw_films(config)


if __name__ == "__main__":
    sys.exit(run_command(SampleConfig, main, sys.argv[1:]))
