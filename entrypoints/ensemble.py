"""Entry point `ensemble`: several trained models averaged into one."""

import sys

from radflow.commands import run_entry_point

if __name__ == "__main__":
    sys.exit(run_entry_point("ensemble", sys.argv[1:]))
