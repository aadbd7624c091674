"""Entry point `train`: training in one process.

TensorFlow is imported only after threads are set and mistakes are found.
"""

from __future__ import annotations

from radflow.cluster.threads import set_threads
from radflow.scaling.layouts import plan_process_here
from radflow.terminal import import_tensorflow
from radflow.tracking.connection import prepare_tracking
from radflow.training.config import TrainConfig, TrainingConfig
from radflow.training.initial_weights import check_weights
from radflow.training.inputs import open_training_dataset
from radflow.training.plan import TrainingFilms, show_plan


def train(config: TrainConfig) -> None:
    """Train in this process."""
    train_in_this_process(config, config.bz, config.bz)


def train_in_this_process(config: TrainingConfig, global_batch: int, local_batch: int) -> None:
    """Be the only rank; a global batch above the local one takes micro-steps."""
    check_weights(config.model)
    dataset = open_training_dataset(config.data)
    films = TrainingFilms.of(dataset)
    plan = plan_process_here(config, films, global_batch, local_batch, may_measure=True)
    show_plan(plan)
    prepare_tracking()
    set_threads(plan.config.told_threads)
    import_tensorflow()
    from radflow.cluster.communicator import SerialCommunicator
    from radflow.cluster.devices import take_gpu
    from radflow.training.job import run_job

    take_gpu(0, 1)
    run_job(plan, dataset, SerialCommunicator())
