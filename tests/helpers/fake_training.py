"""Stands for a training in tests: writes a history whose AUCs follow from base_lr alone, or fails as trainings do.

Best at base_lr 1e-5; exit code 1 above 5e-4 and 2 for momentum 0.5. FAKE_SECONDS is the length of an epoch.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
base_lr = float(flags.get("base_lr", 0.0005))
if flags.get("momentum") == "0.5":
    sys.stdout.write("error: momentum=0.5 is not to be had\n")
    sys.exit(2)
if base_lr > 5e-4:
    sys.stdout.write("failed: the loss is not finite in epoch 1\n")
    sys.exit(1)
folder = Path(flags["out"]) / "job"
folder.mkdir(parents=True)
for epoch in range(1, int(flags.get("epochs", 3)) + 1):
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    score = 0.5 + (0.4 - 0.1 * abs(math.log10(base_lr) + 5)) * (1 - 0.5**epoch)
    with (folder / "history.jsonl").open("a") as history:
        history.write(json.dumps({"epoch": epoch, "val/auc/mean": score}) + "\n")
