"""The entry point's two jobs: one training on a given body, or a comparison of bodies."""

from __future__ import annotations

from radflow.cluster.launcher import is_rank
from radflow.data.dataset import open_dataset
from radflow.data.mammograms import TUMOUR_FINDINGS
from radflow.data.sample import mammogram_folder
from radflow.errors import UserError
from radflow.training.launch import train_distributed, train_in_this_process
from radflow.transfer.config import TransferConfig


def transfer(config: TransferConfig) -> None:
    """Train on mammograms, in this process or on ranks; with source=compare, several times.

    Raises
    ------
    UserError
        The data set does not tell tumours from normal tissue, or what trainings do not accept.
    """
    folder = mammogram_folder(config.data)
    dataset = open_dataset(folder)
    if dataset.findings != TUMOUR_FINDINGS:
        raise UserError(
            f"data={config.data} has labels for {', '.join(dataset.findings[:3])} ... and none for "
            f"{TUMOUR_FINDINGS[0]}; give crops of mammograms, as `preprocess` makes them of CBIS-DDSM or mini-MIAS"
        )
    if config.compares:
        from radflow.transfer.comparison import compare

        compare(config, dataset)
        return
    training = config.training(str(folder))
    if config.np == 1 and not config.hosts and not is_rank():
        train_in_this_process(training, config.gbz, config.lbz)
    else:
        train_distributed(training)
