"""Entry point `transfer`: mammograms on the body of another classifier."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("transfer", sys.argv[1:]))
