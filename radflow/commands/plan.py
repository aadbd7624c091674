"""`python -m radflow plan`: what an entry point would train, and at what cost, without starting it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from radflow.commands.study import protocol_of
from radflow.commands.study import show_plan as show_study
from radflow.config import parse
from radflow.data.config import PreprocessConfig
from radflow.data.dataset.manifest import MANIFEST_NAME
from radflow.data.preprocess import plan_dataset, recognise, resolve
from radflow.data.sample import mammogram_folder, open_data, study_folder
from radflow.errors import UserError
from radflow.scaling.layouts import plan_process_here, plan_ranks_here
from radflow.studies.config import StudyConfig
from radflow.studies.experiments.table import experiment
from radflow.studies.plan import suited_to
from radflow.training.config import DistributedConfig, TrainConfig
from radflow.training.initial_weights import check_weights
from radflow.training.plan import TrainingFilms, TrainingPlan, show_plan
from radflow.transfer.config import TransferConfig

EntryPoint = Literal["distributed", "train", "transfer", "study"]


def print_plan(entry_point: EntryPoint, parameters: Sequence[str]) -> None:
    """Print the plan of an entry point with these parameters, each name=value as `mlflow run -P` takes them.

    Raises UserError where the entry point would.
    """
    for parameter in parameters:
        if "=" not in parameter:
            raise UserError(f"-P {parameter} is not name=value; give for example -P gbz=4096")
    arguments = [f"--{parameter}" for parameter in parameters]
    if entry_point == "study":
        _show_study(parse(StudyConfig, arguments))
    else:
        show_plan(plan_of(entry_point, arguments))


def _show_study(config: StudyConfig) -> None:
    protocol = protocol_of(experiment(config.name), config)
    chest = str(study_folder()) if config.data == "auto" else config.data
    sources = {"train": chest, "distributed": chest, "transfer": config.mammograms}
    used = {arm.entry_point for arm in protocol.arms}
    if "transfer" in used:
        sources["transfer"] = str(mammogram_folder(config.mammograms))
    films: dict[str, TrainingFilms] = {entry_point: training_films(sources[entry_point]) for entry_point in used}
    show_study(config, suited_to(films, protocol), films)


def plan_of(entry_point: str, arguments: Sequence[str]) -> TrainingPlan:
    """Plan what an entry point would train with these flags."""
    if entry_point == "train":
        config = parse(TrainConfig, arguments)
        check_weights(config.model)
        return plan_process_here(config, training_films(config.data), config.bz, config.bz, may_measure=False)
    if entry_point == "distributed":
        return _plan_of_ranks(parse(DistributedConfig, arguments))
    transfer = parse(TransferConfig, arguments)
    if transfer.compares:
        raise UserError("source=compare is several trainings; plan one of them with source=none or a model")
    training = transfer.training(str(mammogram_folder(transfer.data)))
    if not transfer.is_one_process:
        return _plan_of_ranks(training)
    check_weights(training.model)
    films = training_films(training.data)
    local_batch = training.largest_local_batch(films.image_size)
    return plan_process_here(training, films, training.gbz, local_batch, may_measure=False)


def _plan_of_ranks(config: DistributedConfig) -> TrainingPlan:
    check_weights(config.model)
    return plan_ranks_here(config, training_films(config.data), may_measure=False)


def training_films(data: str) -> TrainingFilms:
    """The training films of a dataset, or of a release that `preprocess` has yet to go through.

    Of the latter only the label files are read: they tell how many films there will be.
    """
    folder = Path(data)
    if (folder / MANIFEST_NAME).exists() or recognise(folder) is None:
        return TrainingFilms.of(open_data(data))
    config = resolve(PreprocessConfig(source=data))
    release, planned = plan_dataset(config)
    return TrainingFilms(release.name, config.image_size, int((planned.table.splits == "train").sum()))
