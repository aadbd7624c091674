"""Entry point `sample`: phantom chest films or mammograms in the layout of the real releases."""

import sys

from radflow.config import run_command
from radflow.data.sample import SampleConfig, make_sample

if __name__ == "__main__":
    sys.exit(run_command(SampleConfig, make_sample, sys.argv[1:]))
