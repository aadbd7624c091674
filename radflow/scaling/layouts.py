"""How many ranks of how many threads train fastest on this machine: measured once, and kept for the user."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from radflow.cluster.batch_plan import plan_batches
from radflow.cluster.hosts import Host, is_local, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch
from radflow.cluster.slurm import ranks_for_cores
from radflow.config import command_line
from radflow.cpu import available_cores, cpu_name
from radflow.errors import JobError, UserError
from radflow.files import atomic_file, cache_folder, read_json
from radflow.gpu import usable_gpus
from radflow.scaling.config import StepConfig
from radflow.terminal import say, warn
from radflow.training.config import DistributedConfig, TrainingConfig
from radflow.training.plan import TrainingFilms, TrainingPlan, make_plan, plan_ranks
from radflow.versions import installed_versions

Step = dict[str, float]
"""Seconds of a training step: `computing` is until the slowest rank has its gradients, `whole` is with sum and update.
Empty where it could not be measured."""

PIXELS_OF_A_CORE = 250e6
"""Pixels that a core is to train on before measuring is worth its minute: a DenseNet-121 needs some ten for them."""
MOST_BUSY = 10.0
"""Percent of the cores that others may use while it is measured."""
BUSY_SECONDS = 1.0
_PACKAGES = ("radflow", "tensorflow", "tensorflow-cpu")


@dataclass(frozen=True)
class Layout:
    """Ranks of one machine, and the threads of each."""

    ranks: int
    threads: int

    def __str__(self) -> str:
        """As messages call it, for example `2 ranks of 1 thread`."""
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        return f"{ranks} of {self.threads} {'thread' if self.threads == 1 else 'threads'}"


def plan_ranks_here(config: DistributedConfig, films: TrainingFilms, may_measure: bool) -> TrainingPlan:
    """Plan a training on the ranks and threads that are fastest here, where both are left to radflow.

    They are what was measured here before, or is now, if it may be and the training is long enough; else what
    `plan_ranks` gives. Only ranks of this machine's cores are measured: other hosts need not be like it.
    """
    usual_plan = plan_ranks(config, films)
    if (config.np, config.threads, config.hosts) != ("auto", "auto", "") or not is_local(parse_hosts("")):
        return usual_plan
    cores = available_cores()
    usual = ranks_for_cores(cores)
    counts = sorted({usual, 2 * usual, max(1, usual // 2)}, reverse=True)
    layouts = [Layout(ranks, cores // ranks) for ranks in counts if ranks <= cores and config.gbz % ranks == 0]
    best = _fastest(layouts, usual_plan, config.largest_local_batch(films.image_size), may_measure)
    if best is None:
        return usual_plan
    layout, speed = best
    plan = plan_ranks(replace(config, np=layout.ranks, threads=layout.threads), films)
    return replace(plan, measured_speed=speed)


def plan_process_here(
    config: TrainingConfig, films: TrainingFilms, global_batch: int, local_batch: int, may_measure: bool
) -> TrainingPlan:
    """Plan a training in one process with the threads that are fastest here, as `plan_ranks_here` does it."""
    plan = make_plan(config, films, global_batch, local_batch, ranks=1)
    if config.threads != "auto":
        return plan
    cores = available_cores()
    layouts = [Layout(1, threads) for threads in sorted({cores, cores // 2, cores // 4} - {0}, reverse=True)]
    best = _fastest(layouts, plan, local_batch, may_measure)
    if best is None:
        return plan
    layout, speed = best
    return replace(plan, config=replace(config, threads=layout.threads), measured_speed=speed)


def _fastest(
    layouts: Sequence[Layout], plan: TrainingPlan, largest_local_batch: int, may_measure: bool
) -> tuple[Layout, float] | None:
    """The fastest of the layouts, and its images/s; None where there is nothing to choose, or nothing is known."""
    if len(layouts) < 2 or usable_gpus():
        return None
    pixels = plan.recipe.epochs * plan.films.count * plan.films.image_size**2
    is_long = pixels >= PIXELS_OF_A_CORE * available_cores()
    kept, speeds = _read_kept(), {}
    for layout in layouts:
        batches = plan_batches(plan.batches.global_batch, largest_local_batch, layout.ranks, plan.films.count)
        key = _key(plan, layout, batches.local_batch)
        if key not in kept and may_measure and is_long and not is_busy():
            say(f"measuring how fast {layout} would train here, once ...")
            kept[key] = _measure(plan, layout, batches.local_batch)
            with atomic_file(_file()) as partial:
                partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        if step := kept.get(key):
            seconds = batches.micro_steps * step["computing"] + (step["whole"] - step["computing"])
            speeds[layout] = batches.global_batch / seconds
    if len(speeds) < 2:
        return None
    say("images/s as measured on this machine: " + ", ".join(f"{layout} {speeds[layout]:.3g}" for layout in speeds))
    return max(speeds.items(), key=lambda layout_and_speed: layout_and_speed[1])


def is_busy() -> bool:
    """Whether others compute here, beside whom nothing can be measured; said where it is so."""
    busy = psutil.cpu_percent(interval=BUSY_SECONDS)
    if busy > MOST_BUSY:
        say(f"ranks and threads are not measured: {busy:.0f} % of the cores are busy with other work")
    return busy > MOST_BUSY


def _file() -> Path:
    return cache_folder() / "layouts.json"


def _read_kept() -> dict[str, Step]:
    """Steps by `_key`; none where the file is missing or damaged, since they can be measured again."""
    try:
        return {
            str(key): {name: float(step[name]) for name in (("computing", "whole") if step else ())}
            for key, step in read_json(_file()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _key(plan: TrainingPlan, layout: Layout, local_batch: int) -> str:
    recipe = plan.recipe
    versions = " ".join(f"{name} {version}" for name, version in installed_versions(_PACKAGES).items())
    of_training = f"{plan.config.model.arch} {recipe.norm} {recipe.precision} {recipe.optimizer}"
    batch = f"{plan.films.image_size} px, LBZ {local_batch}"
    return f"{cpu_name()} x {available_cores()}; {versions}; {of_training}; {batch}; {layout}"


def _measure(plan: TrainingPlan, layout: Layout, local_batch: int) -> Step:
    """A step of one micro-batch a rank; empty where it cannot be measured, which is told."""
    with tempfile.TemporaryDirectory() as folder:
        config = StepConfig(
            out=str(Path(folder) / "step.json"),
            arch=plan.config.model.arch,
            norm=plan.recipe.norm,
            precision=plan.recipe.precision,
            optimizer=plan.recipe.optimizer,
            image_size=plan.films.image_size,
            lbz=local_batch,
            threads=layout.threads,
        )
        try:
            _run(config, layout.ranks)
            step = read_json(Path(config.out))
        except (UserError, JobError, OSError) as error:
            warn(f"{layout} could not be measured: {error}")
            return {}
    return {"computing": step["computing"], "whole": step["whole"]}


def _run(config: StepConfig, ranks: int) -> None:
    """Let so many ranks measure, or one process; raises UserError and JobError where they cannot."""
    command = [sys.executable, "-m", "radflow.scaling.step_of_ranks", *command_line(config)]
    if ranks == 1:  # which needs no launcher
        code, reason = subprocess.run(command, check=False).returncode, ""
    else:
        is_synchronized = config.norm == "sync_batch"
        hosts = [Host("localhost", ranks)]
        job = RankJob(command, ranks, hosts, config.threads, sums_within_layers=is_synchronized)
        end = prepare_launch("auto", job).run()
        code, reason = end.code, end.reason
    if code:
        raise JobError(reason or f"it ended with exit code {code}")
