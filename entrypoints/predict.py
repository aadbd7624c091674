"""Entry point `predict`: a registered model used on new films."""

import sys

from radflow.commands.predict import PredictConfig, predict
from radflow.config import run_command

if __name__ == "__main__":
    sys.exit(run_command(PredictConfig, predict, sys.argv[1:]))
