"""Entry point `predict`: a registered model used on new films."""

import sys

from radflow.config import run_command
from radflow.predict import PredictConfig, predict

if __name__ == "__main__":
    sys.exit(run_command(PredictConfig, predict, sys.argv[1:]))
