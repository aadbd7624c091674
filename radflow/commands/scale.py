"""`python -m radflow scale`: measures on the ranks that there are, and predicts training on more."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from radflow.cluster.hosts import Host, describe_hosts, most_ranks, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.secrets_file import take_secrets
from radflow.cluster.launchers.started_ranks import is_rank, rank_on_this_node, ranks_on_this_node
from radflow.cluster.launchers.table import prepare_launch
from radflow.cluster.threads import choose_threads, set_threads
from radflow.config import command_line
from radflow.cpu import available_cores
from radflow.errors import JobError, UserError
from radflow.files import atomic_file, read_json
from radflow.plots.tables import markdown_table, terminal_table
from radflow.scaling.config import ScaleConfig
from radflow.scaling.folder import Machine, measurement_file, write_machine
from radflow.terminal import import_tensorflow, print_table, say


def scale(config: ScaleConfig) -> None:
    """Measure with 1, 2, 4, ... ranks and predict; in a rank, measure."""
    if is_rank():
        _measure_as_rank(config)
    else:
        _measure_and_predict(config)


def _measure_as_rank(config: ScaleConfig) -> None:
    take_secrets()
    set_threads(config.threads, ranks_on_this_node())
    import_tensorflow()
    from radflow.cluster.communicator import HorovodCommunicator
    from radflow.cluster.devices import take_gpu
    from radflow.scaling.measurement import measure

    take_gpu(rank_on_this_node(), ranks_on_this_node())
    communicator = HorovodCommunicator()
    measured = measure(config, communicator)
    communicator.on_first_rank(
        lambda: _write(measurement_file(Path(config.out), communicator.size), json.dumps(measured.to_json()))
    )


def _measure_and_predict(config: ScaleConfig) -> None:
    folder = Path(config.out).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={config.out} cannot be written: {error}; name another folder") from error
    hosts = parse_hosts(config.hosts)
    slots = most_ranks(hosts[:1])
    # A rank has the same threads whether or not all slots are taken.
    config = replace(config, out=str(folder), threads=choose_threads(config.threads, available_cores(), slots))
    jobs = list(measured_jobs(hosts, config.most_measured))
    for number, (ranks, used) in enumerate(jobs, 1):
        say(f"measuring {number} of {len(jobs)}: {describe_hosts(used, ranks)}")
        _run(config, ranks, used)
    _report(config, folder, [ranks for ranks, _ in jobs], slots)


def measured_jobs(hosts: Sequence[Host], most: int) -> Iterator[tuple[int, list[Host]]]:
    """Ranks and hosts of each job that measures: 1, 2, 4, ... ranks on the first host, then those of 2, 4, ... hosts.

    At most `most` ranks measure, unless that is 0.
    """
    local = most_ranks(hosts[:1])
    first = Host(hosts[0].name, local)
    counts = [*_doubling(local), *_doubling(len(hosts))[1:]]
    machines = [1] * len(_doubling(local)) + _doubling(len(hosts))[1:]
    for count, used in zip(counts, machines, strict=True):
        chosen = [first] if used == 1 else list(hosts[:used])
        ranks = count if used == 1 else sum(host.slots for host in chosen)
        if not most or ranks <= most:
            yield ranks, chosen


def _doubling(largest: int) -> list[int]:
    """1, 2, 4, ... and the largest."""
    return sorted({*(2**power for power in range(largest.bit_length())), largest} - {0})


def _run(config: ScaleConfig, ranks: int, hosts: Sequence[Host]) -> None:
    """Let so many ranks measure; raises JobError where they fail."""
    measurement_file(Path(config.out), ranks).unlink(missing_ok=True)
    command = [sys.executable, "-m", "radflow", "scale", *command_line(config)]
    job = RankJob(
        command,
        ranks,
        hosts,
        config.threads,
        # Sums of many sizes, each of which Horovod would forget for the next.
        variables={"HOROVOD_CACHE_CAPACITY": "8192"},
        ssh_agent=config.ssh_agent,
        interface=config.interface,
    )
    end = prepare_launch(config.launcher, job).run()
    if end.code:
        raise JobError(end.reason or f"the ranks ended with exit code {end.code}; the reason is above")


def _report(config: ScaleConfig, folder: Path, counts: Sequence[int], slots: int) -> None:
    from radflow.scaling import report
    from radflow.scaling.figure import scaling_figure
    from radflow.scaling.measured import Measurement

    measurements = [Measurement.from_json(read_json(measurement_file(folder, count))) for count in counts]
    machine = Machine(slots, config.image_size, config.network_gbit, config.network_ms / 1000)
    write_machine(folder, machine)
    model = machine.model(measurements)
    curves = report.curves(model, config)
    measured, predicted = list(report.measured_rows(model, curves)), list(report.predicted_rows(curves, config.films))
    sentences = [
        report.describe_link(model),
        *(report.advice(model, curve) for curve in curves),
        *report.beside_paper(curves),
    ]
    print_table(terminal_table("Measured", report.MEASURED_HEADINGS, measured, report.RIGHT["measured"]))
    print_table(terminal_table("Predicted", report.PREDICTED_HEADINGS, predicted, report.RIGHT["predicted"]))
    for sentence in sentences:
        say(sentence)
    text = "\n\n".join(
        [
            *sentences,
            markdown_table(report.MEASURED_HEADINGS, measured, report.RIGHT["measured"]),
            markdown_table(report.PREDICTED_HEADINGS, predicted, report.RIGHT["predicted"]),
        ]
    )
    _write(folder / "scaling.md", text + "\n")
    links = {"local": asdict(model.local), "network": asdict(model.network), "assumed": model.is_assumed}
    _write(folder / "links.json", json.dumps(links, indent=1))
    figure = scaling_figure(curves, f"Training at {config.image_size} px on more ranks")
    for suffix in ("png", "svg"):
        with atomic_file(folder / f"scaling.{suffix}") as file:
            figure.savefig(file, format=suffix)
    say(f"figure, tables and measurements: {folder}")


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
