"""Stops a training at random moments, resumes it each time, and compares it with an unbroken one.

    python -m benchmarks.kill_and_resume --stops=20
    python -m benchmarks.kill_and_resume --stops=20 --by=ctrl-c --entry=train

By `power-cut` all processes are killed outright. The others start the training by a plain `mlflow run` and press Ctrl-C
(SIGINT to the process group), send SIGTERM to `mlflow run` alone, or press Ctrl-C `twice` within a second; then each
stop must leave a whole checkpoint, no process, and the run KILLED.

Prints what was stopped where, and exits with 1 unless all of that is so and the losses of every epoch and the last
weights are the same to the last bit. Films are phantoms, the model is VGG-16, and every step writes a checkpoint.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from radflow.training.checkpoint import Checkpoint, read_checkpoint
from radflow.training.job_folder import read_job

PROJECT = Path(__file__).resolve().parent.parent
EPOCHS = 3
TRAINING = {"arch": "vgg16", "epochs": EPOCHS, "base_lr": 0.0001, "deterministic": "true", "checkpoint_minutes": 0}
BATCH = {"train": {"bz": 16}, "distributed": {"gbz": 32, "gbz_schedule": "16:2", "lbz": 8, "np": 2}}
FIRST_CHECKPOINT_SECONDS = 300
END_SECONDS = 60


def command(entry: str, **flags: object) -> list[str]:
    return [sys.executable, "-m", "radflow", entry, *(f"--{name}={value}" for name, value in flags.items())]


def mlflow_run(entry: str, **flags: object) -> list[str]:
    given = [word for name, value in flags.items() for word in ("-P", f"{name}={value}")]
    return ["mlflow", "run", str(PROJECT), "-e", entry, *given]


def cut_power(process: subprocess.Popen) -> None:
    """SIGKILL for the launcher, mpirun and every rank, as when a node loses power."""
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in everyone:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(everyone)


def press_ctrl_c(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)


def press_ctrl_c_twice(process: subprocess.Popen) -> None:
    press_ctrl_c(process)
    time.sleep(random.random())
    if process.poll() is None:
        press_ctrl_c(process)


STOPS: dict[str, Callable[[subprocess.Popen], None]] = {
    "power-cut": cut_power,
    "ctrl-c": press_ctrl_c,
    "sigterm": subprocess.Popen.terminate,
    "twice": press_ctrl_c_twice,
}


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("*/step-*.npz"))


class Trial:
    """A training that is stopped and resumed until it has ended."""

    def __init__(self, folder: Path, environment: dict[str, str], entry: str, by: str) -> None:
        self.folder, self.environment, self.by = folder, environment, by
        self.out = folder / "stopped"
        start = command if by == "power-cut" else mlflow_run
        self.line = start(entry, **training(folder, entry), out=self.out, resume="auto")

    def resume_and_stop(self, steps: int, delay: float) -> str:
        """Resume and stop `delay` seconds after `steps` more checkpoints; tell how far it got, or what is wrong."""
        before = checkpoints(self.out)[-1:]
        seen = set(before)
        process = subprocess.Popen(
            self.line,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + FIRST_CHECKPOINT_SECONDS
        while len(seen) - len(before) < steps and process.poll() is None:
            seen |= set(checkpoints(self.out))
            if time.monotonic() > deadline:
                cut_power(process)
                raise SystemExit("no checkpoint came in time")
            time.sleep(0.005)
        time.sleep(delay)
        if (code := process.poll()) is not None:
            early = "finished before it could be stopped"
            return f"WRONG: ended by itself with exit code {code}" if code else early
        STOPS[self.by](process)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            tree = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
            told = [f"{pid} {' '.join(psutil.Process(pid).cmdline())[:80]}" for pid in tree]
            cut_power(process)
            return f"WRONG: after {END_SECONDS} s there still were {told}"
        newest = checkpoints(self.out)[-1:]
        told = f"stopped after {newest[0].stem}" if newest else "stopped before the first checkpoint"
        return told if self.by == "power-cut" else f"{told}{self.what_is_wrong(newest)}"

    def what_is_wrong(self, newest: list[Path]) -> str:
        """What a stop has left that it should not, after a colon; nothing where all is well."""
        wrong = []
        if left := self.processes_left():
            wrong.append(f"processes {left} are left")
        if newest:
            read_checkpoint(newest[0])  # raises where it is not whole
            job = read_job(newest[0].parent)
            wanted = "FINISHED" if job.is_finished else "KILLED"  # the signal came after the last of its work
            if (status := self.last_status_of(job.run_id, wanted)) != wanted:
                wrong.append(f"run {job.run_id} is {status}")
        return f": WRONG: {', '.join(wrong)}" if wrong else ""

    def processes_left(self) -> list[int]:
        """Processes of the training that do not end within their time."""
        deadline = time.monotonic() + END_SECONDS
        while True:
            named = (each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"])
            left = [each.pid for each in named if any(str(self.out) in word for word in each.info["cmdline"])]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.2)

    def last_status_of(self, run_id: str, wanted: str) -> str:
        """Status of a run, as soon as it is the wanted one: MLflow's own, which is FAILED at first, is corrected."""
        from mlflow import MlflowClient

        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        deadline = time.monotonic() + END_SECONDS
        while (status := str(client.get_run(run_id).info.status)) != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        return status


def training(folder: Path, entry: str) -> dict[str, object]:
    return {"data": folder / "dataset", **TRAINING, **BATCH[entry]}


def without_timing(checkpoint: Checkpoint) -> list[dict[str, float]]:
    history = checkpoint.progress["history"]
    return [{key: value for key, value in epoch.items() if not key.startswith("throughput/")} for epoch in history]


def is_same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two last checkpoints hold the same losses, weights and optimiser, timing apart."""
    print("validation loss by epoch:", *(f"{epoch['val/loss']:.6f}" for epoch in other.progress["history"]))
    arrays = [[*each.weights, *each.optimizer] for each in (one, other)]
    same_arrays = len(arrays[0]) == len(arrays[1]) and all(map(np.array_equal, *arrays))
    # NaN, the AUC of a finding that has one class only, equals nothing: compared as text.
    return same_arrays and str(without_timing(one)) == str(without_timing(other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--by", choices=STOPS, default="power-cut")
    parser.add_argument("--entry", choices=BATCH, default="distributed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    # A shell starts what runs in the background with SIGINT ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        environment |= {"PYTHONPATH": str(PROJECT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        quiet = {"cwd": folder, "env": environment, "check": True, "capture_output": True}
        subprocess.run(command("sample", out="films", films=240, seed=3), **quiet)
        subprocess.run(command("preprocess", source="films", out="dataset", image_size=32), **quiet)
        subprocess.run(command(options.entry, **training(folder, options.entry), out="unbroken"), **quiet)
        steps_in_all = int(checkpoints(folder / "unbroken")[-1].stem.removeprefix("step-"))
        # On average the stops use up the steps that there are.
        most = max(1, round(2 * steps_in_all / options.stops))
        trial = Trial(folder, environment, options.entry, options.by)
        told = []
        for number in range(options.stops):
            told.append(trial.resume_and_stop(chance.randint(0, most), chance.uniform(0, 0.5)))
            print(f"{number + 1}: {told[-1]} of {steps_in_all}", flush=True)
        line = command(options.entry, **training(folder, options.entry), out=trial.out, resume="auto")
        subprocess.run(line, **quiet)
        same = is_same(*(read_checkpoint(checkpoints(out)[-1]) for out in (folder / "unbroken", trial.out)))
        print("the same losses and weights to the last bit" if same else "DIFFERENT from the unbroken training")
        sys.exit(not same or any("WRONG" in line for line in told))


if __name__ == "__main__":
    main()
