"""Entry point `evaluate`: a model from MLflow assessed on a split of a data set."""

import sys

from radflow.config import run_command
from radflow.evaluate import EvaluateConfig, evaluate

if __name__ == "__main__":
    sys.exit(run_command(EvaluateConfig, evaluate, sys.argv[1:]))
