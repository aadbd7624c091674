"""Entry point `preprocess`: films as released become a dataset on disk."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("preprocess", sys.argv[1:]))
