"""Entry point `evaluate`: a model from MLflow assessed on a split of a dataset."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("evaluate", sys.argv[1:]))
