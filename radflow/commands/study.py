"""Entry point `study`: an experiment planned, trained, drawn beside the paper's figure, and its claims judged."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from radflow.cluster.launchers.started_ranks import is_rank
from radflow.config import command_line, flatten
from radflow.cpu import available_cores, instruction_sets, share_cores
from radflow.data.dataset.reading import Dataset
from radflow.data.sample import SAMPLE
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.plots.tables import terminal_table
from radflow.studies.cells import CellResult
from radflow.studies.config import StudyConfig
from radflow.studies.experiment import Experiment, ImageNet, Protocol, Settings
from radflow.studies.experiments.table import experiment
from radflow.studies.films import FilmCounts, count_films, datasets_of
from radflow.studies.outcome import Outcome
from radflow.studies.plan import HEADINGS, plan_rows, plan_study, suited_to
from radflow.studies.report import KIND, KIND_TAG, SCALE_TAG, StudyReport
from radflow.studies.training import CellTrainer
from radflow.studies.verdicts import verdicts
from radflow.terminal import print_table, say, warn
from radflow.tracking.connection import prepare_tracking
from radflow.tracking.remembered_run import remember_run, resume_remembered
from radflow.tracking.run import STUDY_TAG, tracking_run
from radflow.training.initial_weights import check_weights
from radflow.training.plan import TrainingFilms


def study(config: StudyConfig) -> None:
    """Train the cells that have not been trained yet, and report in a run of the study's own.

    Raises
    ------
    UserError
        The films or the weights do not serve, or a training does not accept its settings.
    JobError
        A training failed, for another reason than a loss that is not finite; the same command goes on from there.
    """
    if is_rank():
        raise UserError("study starts its own ranks; run it by itself, not inside srun or mpirun")
    chosen = experiment(config.name)
    protocol = protocol_of(chosen, config)
    datasets = datasets_of(config, protocol)
    films = count_films(SAMPLE if config.data == "auto" else config.data) if not datasets else _counts(datasets)
    check_findings(chosen, config, films)
    seeds = config.seeds or protocol.seeds
    training_films = {entry_point: TrainingFilms.of(dataset) for entry_point, dataset in datasets.items()}
    protocol = suited_to(training_films, protocol)
    show_plan(config, protocol, training_films)
    _check_weights(protocol, config)
    prepare_tracking()
    out, name = Path(config.out).resolve(), _study_name(config, films, datasets)
    resume_remembered(out / name)
    tags = {STUDY_TAG: config.name, KIND_TAG: KIND, SCALE_TAG: config.scale}
    tags |= {"radflow.data_name": films.name}
    with tracking_run(f"study {config.name}", flatten(config), tags) as run:
        remember_run(out / name, run.run_id)
        trainer = CellTrainer(config.name, protocol, _shared(config), config.imagenet_files, datasets, out / "cells")
        if workers_of(config) < config.workers:
            say(f"{config.name} is about speed: one training at a time, not {config.workers}")
        results = trainer.train_all(seeds, workers_of(config), lambda done: run.log_metrics(_progress(done), len(done)))
        outcome = Outcome(protocol.arms, tuple(results), films)
        report = StudyReport(chosen, _facts(config, films, datasets, seeds), out / name)
        report.write(outcome, verdicts(chosen.judge(outcome)), run)
        say(run.url())


def check_findings(chosen: Experiment, config: StudyConfig, films: FilmCounts) -> None:
    """Raise UserError where the films are not labelled for what the experiment is about."""
    if missing := [finding for finding in chosen.findings if finding not in films.positives]:
        raise UserError(
            f"data={config.data} is not labelled for {', '.join(missing)}, which name={config.name} is about; "
            "give films that are, such as ChestX-ray14"
        )


def protocol_of(chosen: Experiment, config: StudyConfig) -> Protocol:
    """The experiment's protocol at this scale, without the arms that want more threads than this machine has cores.

    Raises UserError where none is left.
    """
    protocol = chosen.full if config.scale == "paper" else chosen.reduced
    cores = available_cores()
    threads = {arm: int(str(arm.settings.get("threads", 0))) for arm in protocol.arms}
    fitting = [arm for arm in protocol.arms if config.hosts or threads[arm] <= cores]
    if protocol.arms and not fitting:
        raise UserError(f"name={config.name} wants more threads than the {cores} cores here; give a larger machine")
    if len(fitting) < len(protocol.arms):
        excess = ", ".join(str(count) for count in sorted({*threads.values()}) if count > cores)
        warn(f"this machine has {cores} cores; arms of {excess} threads are left out")
    if not config.epochs:
        return replace(protocol, arms=tuple(fitting))
    arms = tuple(replace(arm, settings={**arm.settings, "epochs": config.epochs}) for arm in fitting)
    return replace(protocol, arms=arms)


def workers_of(config: StudyConfig) -> int:
    """Trainings at a time: one where they are timed."""
    return 1 if experiment(config.name).is_timed else config.workers


def show_plan(config: StudyConfig, protocol: Protocol, films: Mapping[str, TrainingFilms]) -> None:
    """Print what would be trained on these films, which are by entry point, and how long it would take.

    Raises UserError where an arm could not be trained.
    """
    if not protocol.arms:
        return
    seeds = config.seeds or protocol.seeds
    share = (0, workers_of(config), sorted(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(1, initializer=share_cores, initargs=share) as worker:
        planned = worker.submit(plan_study, protocol, seeds, _shared(config), films, Path(config.scaling)).result()
    title = f"Plan of {config.name}, scale {config.scale}"
    print_table(terminal_table(title, HEADINGS, plan_rows(planned), "lrrrrr"))
    if any(math.isnan(arm.hours) for arm in planned):
        kinds = sorted({(arm.plan.config.model.arch, arm.plan.batches.local_batch) for arm in planned})
        archs, batches = (",".join(dict.fromkeys(str(kind[place]) for kind in kinds)) for place in (0, 1))
        size = next(iter(films.values())).image_size
        say(f"for hours: python -m radflow scale --image_size={size} --arch={archs} --lbz={batches} --hosts=HOSTS")


def _shared(config: StudyConfig) -> Settings:
    """Flags that all trainings share, unless an arm has its own."""
    return {"arch": config.arch, "np": config.np, "hosts": config.hosts, "launcher": config.launcher}


def _counts(datasets: Mapping[str, Dataset]) -> FilmCounts:
    """Counts of the chest films, or where there are none, of the crops."""
    by_kind = sorted(datasets.items(), key=lambda item: item[0] == "transfer")
    return FilmCounts.of(by_kind[0][1])


def _check_weights(protocol: Protocol, config: StudyConfig) -> None:
    """Find out before hours of training that ImageNet's weights are not there."""
    for arm in protocol.arms:
        settings = {"arch": config.arch, **protocol.settings, **arm.settings}
        arch = str(settings["arch"])
        if isinstance(settings.get("weights"), ImageNet):
            check_weights(ModelConfig(arch=arch, weights=config.imagenet_files.get(arch, "imagenet")))


def _study_name(config: StudyConfig, films: FilmCounts, datasets: Mapping[str, Dataset]) -> str:
    """A name made of what defines the study, so that the same command resumes it."""
    defining = [config.scale, config.seeds, config.epochs, config.arch, str(config.np), config.hosts, config.imagenet]
    text = json.dumps([*defining, asdict(films), *sorted(dataset.digest for dataset in datasets.values())])
    return f"{config.name}-{config.scale}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _progress(results: Sequence[CellResult]) -> dict[str, float]:
    diverged = sum(result.has_diverged for result in results)
    return {"study/cells/finished": float(len(results) - diverged), "study/cells/diverged": float(diverged)}


def _facts(config: StudyConfig, films: FilmCounts, datasets: Mapping[str, Dataset], seeds: int) -> dict[str, str]:
    """What a reader must know before the numbers."""
    told = "; ".join(sorted({_films_in_words(dataset) for dataset in datasets.values()}))
    sets = instruction_sets()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in sets]
    where = config.hosts or f"one machine, {available_cores()} cores ({', '.join(known) or 'no vector instructions'})"
    command = " ".join(["python -m radflow study", *command_line(config)])
    facts = {
        "Films": told or f"{films.films:,} of {films.name}",
        "Scale": config.scale,
        "Hosts": where,
        "Command": command,
    }
    return facts | ({"Seeds": str(seeds)} if seeds else {})


def _films_in_words(dataset: Dataset) -> str:
    """Speeds depend on their size, and what is significant on their number."""
    train, validation, test = (len(dataset.split(split)) for split in ("train", "val", "test"))
    size = dataset.image_size
    return (
        f"{dataset.name} of {size} px, {train:,} to train on, {validation:,} for validation and {test:,} for the test"
    )
