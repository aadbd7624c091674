"""Entry point `promote`: the best run of each family becomes its champion, if the policy allows it."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("promote", sys.argv[1:]))
