"""Speed and memory of training: radflow beside Keras `fit` and PyTorch 2, as ratios within one run.

    make bench                                     # makes PyTorch's venv, then runs this with its defaults
    make bench-quick                               # DenseNet-121 in batches of 16, without Keras and torch.compile
    python benchmarks/training.py --image_size=64 --steps=3 --repeats=1 --arch densenet121 --batch 16

Every measurement is a process of its own; repetitions are interleaved, so that a machine that slows down slows all
alike. A batch is what one process computes at a time: `distributed` trains global batches of cores x batch with the
ranks that np=auto picks. With the defaults it takes hours on two cores. It ends where other processes are at work, and
measures again what the machine's speed has moved under: see `benchmarks/quiet.py`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.quiet import Referee
from radflow.cluster.hosts import choose_ranks, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch
from radflow.cpu import available_cores, instruction_sets
from radflow.models.backbones import ARCHITECTURES
from radflow.models.precision import supports_bfloat16
from radflow.native.library import SWITCH
from radflow.plots.tables import markdown_table

REPOSITORY = Path(__file__).resolve().parent.parent
# Else glibc gives the memory of each large tensor back and takes it again, page by page, which nearly halved PyTorch's
# speed at batch 64. radflow's was the same with and without.
KEEP_MEMORY = ("MALLOC_MMAP_THRESHOLD_=8589934592", "MALLOC_TRIM_THRESHOLD_=8589934592")
ATTEMPTS = 3
"""How often a repetition is measured again because the machine's speed has moved."""
TOLD_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
Result = dict[str, float]
"""images_per_second and peak_mib of all processes together; in radflow's also the parts of a step in seconds."""
Measure = Callable[[list[str], int], Result]
Results = dict[tuple[str, int], dict[str, list[Result]]]
"""A result for each repetition, by network and batch and then by contestant."""
TRAIN, DISTRIBUTED = "radflow train", "radflow distributed"
TORCH, PLAIN = "PyTorch", "radflow train, not native"

PARTS = {
    "input": "waiting for films, and the loop itself",
    "forward_backward": "forward and backward pass",
    "reduce": "sum over ranks, mean",
    "update": "optimiser",
    "logging": "progress, metrics",
}


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--figure", type=Path, help="PNG of where a step's time goes")
    options = parser.parse_args()
    results = measure_all(options, contestants_of(path_of_torch(options), available_cores()))
    print(conditions(options))
    print(speed_table(results))
    print(memory_table(results))
    print(parts_table(results))
    if options.figure:
        draw_parts(results, options.figure)


def conditions(options: argparse.Namespace) -> str:
    """When and where figures were measured."""
    sets = ", ".join(name for name in TOLD_SETS if name in instruction_sets())
    number_format = "bfloat16" if supports_bfloat16() else "float32"
    machine = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {available_cores()} cores ({sets or 'no x86'})"
    return f"{machine}, {options.image_size} px, radflow and PyTorch in {number_format}; medians (least to most)\n"


def path_of_torch(options: argparse.Namespace) -> str:
    return str(options.torch.absolute()) if options.torch else ""


def measure_all(options: argparse.Namespace, contestants: dict[str, Measure]) -> Results:
    """Every contestant of `--only` with every network and batch, repetition by repetition."""
    if unknown := set(options.only) - set(contestants):
        raise SystemExit(f"--only: {', '.join(sorted(unknown))} not known; expected some of {', '.join(contestants)}")
    chosen = {name: measure for name, measure in contestants.items() if not options.only or name in options.only}
    referee = Referee()
    results: Results = defaultdict(lambda: defaultdict(list))
    for repetition in range(options.repeats):
        for arch in options.arch:
            for batch in options.batch:
                flags = [f"--arch={arch}", f"--batch={batch}", f"--image_size={options.image_size}"]
                title = f"{repetition + 1}/{options.repeats} {arch} batch {batch}"
                for name, result in measure_cell(
                    referee, chosen, [*flags, f"--steps={options.steps}"], batch, title
                ).items():
                    results[arch, batch][name].append(result)
    return results


def measure_cell(
    referee: Referee, contestants: dict[str, Measure], flags: list[str], batch: int, title: str
) -> dict[str, Result]:
    """One after the other, and all again if the machine was faster or slower meanwhile."""
    for _ in range(ATTEMPTS):
        referee.refuse_if_busy()
        results = {}
        for name, measure in contestants.items():
            results[name] = measure(flags, batch)
            speed = f"{results[name]['images_per_second']:.2f} images/s, {results[name]['peak_mib']:.0f} MiB"
            print(f"{title} {name}: {speed}", file=sys.stderr)
        if not referee.has_moved():
            return results
    raise SystemExit(f"{title}: the machine's speed moved in each of {ATTEMPTS} attempts; no figures are reported")


def options_parser(description: str) -> argparse.ArgumentParser:
    """The flags of a benchmark of contestants."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=tuple(ARCHITECTURES))
    parser.add_argument("--batch", nargs="+", type=int, default=(16, 64))
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a measurement, after two that are not")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch", type=Path, help="Python of an environment with torch and torchvision")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="contestants, of all")
    return parser


def contestants_of(torch: str, cores: int) -> dict[str, Measure]:
    """Each takes the flags of a measurement and its batch."""
    contestants: dict[str, Measure] = {
        "Keras fit": one_process([sys.executable, "-m", "benchmarks.keras_fit"]),
        TRAIN: one_process([sys.executable, "-m", "benchmarks.radflow_steps"]),
        PLAIN: one_process(["env", f"{SWITCH}=0", sys.executable, "-m", "benchmarks.radflow_steps"]),
        DISTRIBUTED: run_distributed,
    }
    if torch:
        line = ["env", *KEEP_MEMORY, torch, str(REPOSITORY / "benchmarks" / "torch_steps.py")]
        line += ["--autocast"] if supports_bfloat16() else []
        for way, more in (("", []), (", compiled", ["--compile"])):
            contestants[f"{TORCH}{way}"] = one_process([*line, *more, f"--threads={cores}"])
            contestants[f"{TORCH} on each core{way}"] = process_on_each_core([*line, *more, "--threads=1"])
    return contestants


def one_process(line: list[str]) -> Measure:
    return lambda flags, _: run_alone([*line, *flags])


def process_on_each_core(line: list[str]) -> Measure:
    return lambda flags, _: run_together(
        [[*line, *flags, f"--core={core}"] for core in sorted(os.sched_getaffinity(0))]
    )


def run_alone(command: list[str]) -> Result:
    return run_together([command])


def run_together(commands: list[list[str]]) -> Result:
    """Processes that warm up, say that they are ready and measure at the same time."""
    processes = [
        subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in processes:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{' '.join(process.args)} ended before it measured anything")
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return summed([json.loads(process.communicate()[0]) for process in processes])


def run_distributed(flags: list[str], batch: int) -> Result:
    hosts, global_batch = parse_hosts(""), batch * available_cores()
    ranks = choose_ranks("auto", hosts, global_batch)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.radflow_steps", *flags, f"--global_batch={global_batch}"]
        job = RankJob([*command, f"--out={folder}"], ranks, hosts, variables={"PYTHONPATH": str(REPOSITORY)})
        code = prepare_launch("mpirun", job).run().code
        if code:
            raise SystemExit(f"{ranks} ranks ended with exit code {code}")
        return summed([json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())])


def summed(results: list[Result]) -> Result:
    """Speeds and memory of processes add up; the parts of a step are those of the first."""
    total = {key: sum(result[key] for result in results) for key in ("images_per_second", "peak_mib")}
    return {**results[0], **total}


def speed_table(results: Results) -> str:
    """Images/s, and the ratios of radflow to Keras and to the fastest PyTorch."""
    names = list(next(iter(results.values())))
    ours = [name for name in (TRAIN, DISTRIBUTED) if name in names]
    pairs = [(TRAIN, PLAIN)] if PLAIN in names and TRAIN in names else []
    pairs += [(name, "Keras fit") for name in ours if "Keras fit" in names]
    pairs += [(name, "best PyTorch") for name in ours if any(TORCH in name for name in names)]
    headings = ["network", "batch", *names, *(f"{name} / {other}" for name, other in pairs)]
    rows = []
    for (arch, batch), measured in results.items():
        speeds = {name: [result["images_per_second"] for result in measured[name]] for name in names}
        cells = [with_spread(values) for values in speeds.values()]
        cells += [
            ratio(speeds[name], speeds[other if other in names else best_torch(speeds, name)]) for name, other in pairs
        ]
        rows.append([arch, str(batch), *cells])
    return markdown_table(headings, rows, align="ll" + "r" * (len(headings) - 2)) + "\n"


def best_torch(speeds: dict[str, list[float]], ours: str) -> str:
    """The fastest PyTorch of one process against `train`, of one on each core against `distributed`."""
    like = [name for name in speeds if TORCH in name and ("each core" in name) == (ours == DISTRIBUTED)]
    return max(like or [name for name in speeds if TORCH in name], key=lambda name: statistics.median(speeds[name]))


def ratio(ours: list[float], theirs: list[float]) -> str:
    """How many times as fast as theirs ours are, repetition by repetition."""
    return f"**{with_spread([a / b for a, b in zip(ours, theirs, strict=True)])}**"


def with_spread(values: list[float]) -> str:
    """The median, with the least and the most where there are several."""
    spread = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.2f}{spread}"


def memory_table(results: Results) -> str:
    """Largest resident memory of all processes of a contestant together, MiB."""
    names = list(next(iter(results.values())))
    rows = []
    for (arch, batch), measured in results.items():
        peaks = [max(result["peak_mib"] for result in measured[name]) for name in names]
        rows.append([arch, str(batch), *(f"{peak:.0f}" for peak in peaks)])
    return markdown_table(["peak memory, MiB", "batch", *names], rows, align="ll" + "r" * len(names)) + "\n"


def shares_of(measured: dict[str, list[Result]], name: str) -> dict[str, float]:
    """Share of a step's time that each part takes, median over the repetitions."""
    return {
        part: statistics.median(result[part] / sum(result[each] for each in PARTS) for result in measured[name])
        for part in PARTS
    }


def parts_table(results: Results) -> str:
    headings = ["share of a step, %", "batch", "as", *PARTS.values()]
    rows = []
    for (arch, batch), measured in results.items():
        for name in (name for name in (TRAIN, DISTRIBUTED) if name in measured):
            shares = shares_of(measured, name).values()
            rows.append([arch, str(batch), name, *(f"{100 * share:.2f}" for share in shares)])
    return markdown_table(headings, rows, align="lll" + "r" * len(PARTS)) + "\n"


def draw_parts(results: Results, path: Path) -> None:
    """A bar for each row of the table, as long as the step, with its parts in it."""
    from matplotlib.figure import Figure

    from radflow.plots.style import AMBER, BLUE, DPI, GREEN, ORANGE, PURPLE, WIDTH

    rows = [
        (f"{arch}, batch {batch}\n{name.removeprefix('radflow ')}", shares_of(measured, name))
        for (arch, batch), measured in results.items()
        for name in (TRAIN, DISTRIBUTED)
        if name in measured
    ]
    figure = Figure(figsize=(WIDTH, 1.6 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(rows)
    for part, colour in zip(PARTS, (AMBER, BLUE, ORANGE, GREEN, PURPLE), strict=True):
        widths = [100 * shares[part] for _, shares in rows]
        label = f"{PARTS[part]} ({f'up to {max(widths):.1f}' if max(widths) >= 0.1 else 'below 0.1'} %)"
        axes.barh(range(len(rows)), widths, left=left, color=colour, label=label)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of a step's time, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(path, dpi=DPI)


if __name__ == "__main__":
    main()
