"""Kills a distributed training outright at random steps, resumes it each time, and compares it with an unbroken one.

    python benchmarks/kill_and_resume.py --kills=20

Prints what was killed where, and exits with 1 unless the losses of every epoch and the last weights are the same to the
last bit. Films are phantoms, the model is VGG-16 on two ranks, and every step writes a checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

EPOCHS = 3
TRAINING = ("--data=dataset", "--arch=vgg16", f"--epochs={EPOCHS}", "--gbz=16", "--lbz=8", "--np=2", "--base_lr=0.0001")
TRAINING += ("--deterministic=true", "--checkpoint_minutes=0")
FIRST_CHECKPOINT_SECONDS = 300


def command(entry: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"entrypoints.{entry}", *flags]


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL for the launcher, mpirun and every rank, as when a node loses power."""
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in everyone:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(everyone)
    process.wait()


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("*/step-*.npz"))


def train_until_killed(folder: Path, environment: dict[str, str], steps: int, delay: float) -> str:
    """Resume the job and kill it `delay` seconds after `steps` more checkpoints; tell how far it got."""
    out = folder / "killed"
    line = command("distributed", *TRAINING, f"--out={out}", "--resume=auto")
    before = checkpoints(out)[-1:]
    seen = set(before)
    with subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + FIRST_CHECKPOINT_SECONDS
        while len(seen) - len(before) < steps and process.poll() is None:
            seen |= set(checkpoints(out))
            if time.monotonic() > deadline:
                kill_all(process)
                raise SystemExit("no checkpoint came in time")
            time.sleep(0.005)
        time.sleep(delay)
        if process.poll() is not None:
            return "finished before it could be killed"
        kill_all(process)
    newest = checkpoints(out)[-1:]
    return f"killed after {newest[0].stem}" if newest else "killed before the first checkpoint"


def last_weights(out: Path) -> dict[str, np.ndarray]:
    with np.load(checkpoints(out)[-1]) as archive:
        return {name: archive[name] for name in archive.files}


def without_timing(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in epoch.items() if not key.startswith("throughput/")} for epoch in history]


def is_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two last checkpoints hold the same losses and weights, timing apart."""
    import json

    histories = [json.loads(each["progress"].tobytes())["history"] for each in (one, other)]
    print("validation loss by epoch:", *(f"{epoch['val/loss']:.6f}" for epoch in histories[1]))
    arrays = one.keys() - {"progress"}
    same_weights = one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in arrays)
    # NaN, the AUC of a finding that has one class only, equals nothing: compared as text.
    return same_weights and str(without_timing(histories[0])) == str(without_timing(histories[1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        quiet = {"cwd": folder, "env": environment, "check": True, "capture_output": True}
        subprocess.run(command("sample", "--out=films", "--films=240", "--seed=3"), **quiet)
        subprocess.run(command("preprocess", "--source=films", "--out=dataset", "--image_size=32"), **quiet)
        subprocess.run(command("distributed", *TRAINING, "--out=unbroken"), **quiet)
        steps_in_all = int(checkpoints(folder / "unbroken")[-1].stem.removeprefix("step-"))
        # On average the kills use up the steps that there are.
        most = max(1, round(2 * steps_in_all / options.kills))
        for number in range(options.kills):
            told = train_until_killed(folder, environment, chance.randint(0, most), chance.uniform(0, 0.5))
            print(f"{number + 1}: {told} of {steps_in_all}", flush=True)
        subprocess.run(command("distributed", *TRAINING, "--out=killed", "--resume=auto"), **quiet)
        same = is_same(last_weights(folder / "unbroken"), last_weights(folder / "killed"))
        print("the same losses and weights to the last bit" if same else "DIFFERENT from the unbroken training")
        sys.exit(not same)


if __name__ == "__main__":
    main()
