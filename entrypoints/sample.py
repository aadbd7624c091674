"""Entry point `sample`: phantom chest films in the layout of ChestX-ray14."""

import sys

from radflow.config import run_command
from radflow.data.sample import SampleConfig, make_sample

if __name__ == "__main__":
    sys.exit(run_command(SampleConfig, make_sample, sys.argv[1:]))
