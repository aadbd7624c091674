"""Entry point `predict`: probabilities of a registered model for a folder of films."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("predict", sys.argv[1:]))
