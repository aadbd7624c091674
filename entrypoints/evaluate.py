"""Entry point `evaluate`: a model from MLflow assessed on a split of a data set."""

import sys

from radflow.commands.evaluate import EvaluateConfig, evaluate
from radflow.config import run_command

if __name__ == "__main__":
    sys.exit(run_command(EvaluateConfig, evaluate, sys.argv[1:]))
