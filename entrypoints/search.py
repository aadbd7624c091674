"""Entry point `search`: hyper-parameters of large-batch training by Optuna."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("search", sys.argv[1:]))
