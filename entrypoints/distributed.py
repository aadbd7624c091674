"""Entry point `distributed`: one model on several ranks."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("distributed", sys.argv[1:]))
