"""Entry point `transfer`, with two jobs: one training on a given body, or a comparison of bodies."""

from __future__ import annotations

from radflow.cluster.launchers.started_ranks import is_rank
from radflow.commands.distributed import distributed
from radflow.commands.train import train_in_this_process
from radflow.data.dataset.reading import open_dataset
from radflow.data.sample import mammogram_folder
from radflow.errors import UserError
from radflow.transfer.classes import check_classes
from radflow.transfer.config import TransferConfig


def transfer(config: TransferConfig) -> None:
    """Train on mammograms, in this process or on ranks; with source=compare, several times.

    Raises
    ------
    UserError
        The dataset does not show tumours and normal tissue in each split, or what trainings do not accept.
    """
    if config.compares and is_rank():
        raise UserError("source=compare starts its own ranks; run it by itself, not inside srun or mpirun")
    folder = mammogram_folder(config.data)
    dataset = open_dataset(folder)
    check_classes(config.data, dataset)
    if config.compares:
        from radflow.transfer.comparison import compare

        compare(config, dataset)
        return
    training = config.training(str(folder))
    if config.is_one_process and not is_rank():
        train_in_this_process(training, config.gbz, training.largest_local_batch(dataset.image_size))
    else:
        distributed(training)
