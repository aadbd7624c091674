"""Entry point `study`: an experiment of the paper, or one beyond it."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("study", sys.argv[1:]))
