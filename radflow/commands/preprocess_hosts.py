"""The part of `preprocess` that several hosts do together: each makes the images of some units of the release."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from radflow.cluster.hosts import Host, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.mpirun import mpirun
from radflow.cluster.launchers.secrets_file import take_secrets
from radflow.cluster.launchers.started_ranks import rank_number
from radflow.cluster.launchers.table import Launch
from radflow.cluster.reports import this_host
from radflow.config import command_line
from radflow.data.config import PreprocessConfig
from radflow.data.decoding import decode_films
from radflow.data.parts import make_units, unit_file, units_of
from radflow.data.preprocess import digest_of, plan_dataset
from radflow.errors import MISTAKE, JobError, UserError
from radflow.storage import S3Path, locate
from radflow.terminal import progress_bar, say

FOLDER_VARIABLE, HOSTS_VARIABLE = "RADFLOW_UNITS_FOLDER", "RADFLOW_UNITS_HOSTS"
"""Variables by which the processes of the hosts are told where their units go, and how many hosts there are."""
_LOOK_EVERY = 0.5


@contextmanager
def units_of_hosts(config: PreprocessConfig) -> Iterator[Path]:
    """Let the hosts make all units; yields their folder, which is removed when the dataset stands.

    Units that are whole stay there when anything fails, and the same command resumes from them. Raises UserError and
    JobError.
    """
    release, plan = plan_dataset(config)
    folder = _folder_of_units(config, digest_of(config, release, plan))
    folder.mkdir(parents=True, exist_ok=True)
    units = len(units_of(plan))
    try:
        with _progress(folder, units):
            _run_hosts(config, folder)
        yield folder
    except BaseException:
        if whole := len(_whole_units(folder)):
            say(f"{whole} of {units} units stay in {folder}; the same command resumes from them")
        raise
    shutil.rmtree(folder)


def _folder_of_units(config: PreprocessConfig, digest: str) -> Path:
    """A folder beside the dataset that all hosts see; its name says what it is made from."""
    out = locate(config.out)
    if isinstance(out, S3Path):
        fix = "give a folder that all hosts see, and copy the dataset to the bucket afterwards"
        raise UserError(f"out={config.out} with hosts={config.hosts}: {fix}")
    whole = out.resolve()
    return whole.with_name(f".{whole.name}.units-{digest[:16]}")


def _run_hosts(config: PreprocessConfig, folder: Path) -> None:
    hosts = [Host(host.name, 1) for host in parse_hosts(config.hosts)]
    command = [sys.executable, "-m", "radflow", "preprocess", *command_line(config)]
    variables = {FOLDER_VARIABLE: str(folder), HOSTS_VARIABLE: str(len(hosts))}
    job = RankJob(
        command, len(hosts), hosts, variables=variables, ssh_agent=config.ssh_agent, interface=config.interface
    )
    say(f"decoding on {', '.join(host.name for host in hosts)}")
    end = Launch("mpirun", "", job, mpirun(job)).run()
    if end.code == MISTAKE:
        sys.exit(end.code)  # a host has said in its one line what was wrong
    if end.code:
        raise JobError(end.reason or f"decoding on hosts ended with exit code {end.code}; the reason is above")


def make_units_of_host(config: PreprocessConfig) -> None:
    """Make the units of this host: of so many hosts each takes every so-manieth."""
    take_secrets()
    folder, hosts = Path(os.environ[FOLDER_VARIABLE]), int(os.environ[HOSTS_VARIABLE])
    release, plan = plan_dataset(config)
    if _folder_of_units(config, digest_of(config, release, plan)).name != folder.name or not folder.is_dir():
        raise UserError(
            f"{this_host()} sees other films or lists in {config.source}, or not the folder {folder}; "
            "give places that all hosts share"
        )
    numbers = range(rank_number(), len(units_of(plan)), hosts)
    decode = partial(decode_films, size=config.image_size, fit=config.makes_square_by, workers=config.workers)
    make_units(plan, numbers, folder, decode, isinstance(release.folder, S3Path))


@contextmanager
def _progress(folder: Path, units: int) -> Iterator[None]:
    """Show how many units are whole while the block lasts."""
    ended = threading.Event()
    with progress_bar("decoding on hosts", "units", units) as move:

        def look() -> None:
            while not ended.wait(_LOOK_EVERY):
                move(len(_whole_units(folder)), total=units)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _whole_units(folder: Path) -> list[Path]:
    return list(folder.glob(unit_file(folder, 0).name.replace("00000", "*")))
