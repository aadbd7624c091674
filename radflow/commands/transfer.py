"""Entry point `transfer`, with two jobs: one training on a given body, or a comparison of bodies."""

from __future__ import annotations

from radflow.cluster.launchers.started_ranks import is_rank
from radflow.commands.distributed import distributed
from radflow.commands.train import train_in_this_process
from radflow.data.crops.mammograms import TUMOUR_FINDINGS
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.sample import mammogram_folder
from radflow.errors import UserError
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
    _check_classes(config, dataset)
    if config.compares:
        from radflow.transfer.comparison import compare

        compare(config, dataset)
        return
    training = config.training(str(folder))
    if config.np == 1 and not config.hosts and not is_rank():
        train_in_this_process(training, config.gbz, training.largest_local_batch(dataset.image_size))
    else:
        distributed(training)


def _check_classes(config: TransferConfig, dataset: Dataset) -> None:
    """Find out before hours of training that there would be no AUC in the end."""
    if dataset.findings != TUMOUR_FINDINGS:
        raise UserError(
            f"data={config.data} has labels for {', '.join(dataset.findings[:3])} ... and none for "
            f"{TUMOUR_FINDINGS[0]}; give crops of mammograms, as `preprocess` makes them of CBIS-DDSM or mini-MIAS"
        )
    for split, counts in dataset.manifest.splits.items():
        tumours = counts.positives[TUMOUR_FINDINGS[0]]
        if not tumours or tumours == counts.rows:
            kinds = "no crop with a tumour" if not tumours else "no crop of normal tissue"
            raise UserError(f"data={config.data} has {kinds} in {split}; preprocess with other fractions or more films")
