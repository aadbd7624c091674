"""Entry point `promote`: the best run of each family becomes the champion."""

import sys

from radflow.config import run_command
from radflow.promotion import PromoteConfig, promote

if __name__ == "__main__":
    sys.exit(run_command(PromoteConfig, promote, sys.argv[1:]))
