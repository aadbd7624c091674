"""Entry point `train`: one process, one model."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("train", sys.argv[1:]))
