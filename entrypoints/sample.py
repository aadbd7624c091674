"""Entry point `sample`: phantom films in a folder."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("sample", sys.argv[1:]))
