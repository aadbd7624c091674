"""Entry point `promote`: the best run of each family becomes its champion, if the policy allows it."""

import sys

from radflow.commands.promote import promote
from radflow.config import run_command
from radflow.promotion.config import PromoteConfig

if __name__ == "__main__":
    sys.exit(run_command(PromoteConfig, promote, sys.argv[1:]))
