"""Speed and memory of training: radflow beside Keras `fit` and PyTorch 2, as ratios within one run.

    make bench                                     # makes PyTorch's venv, then runs this with its defaults
    python benchmarks/training.py --image_size=64 --steps=3 --repeats=1 --arch densenet121 --batch 16

Every measurement is a process of its own; repetitions are interleaved, so that a machine that slows down slows all
alike. A batch is what one process computes at a time: `distributed` trains global batches of cores x batch with the
ranks that np=auto picks. With the defaults it takes hours on two cores; nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from radflow.cluster.hosts import choose_ranks, parse_hosts
from radflow.cluster.launchers.base import RankJob
from radflow.cluster.launchers.table import prepare_launch
from radflow.cpu import available_cores
from radflow.models.backbones import ARCHITECTURES
from radflow.models.precision import supports_bfloat16
from radflow.plots.tables import markdown_table

REPOSITORY = Path(__file__).resolve().parent.parent
# Else glibc gives the memory of each large tensor back and takes it again, page by page, which nearly halved PyTorch's
# speed at batch 64. radflow's was the same with and without.
KEEP_MEMORY = ("MALLOC_MMAP_THRESHOLD_=8589934592", "MALLOC_TRIM_THRESHOLD_=8589934592")
Result = dict[str, float]
"""images_per_second and peak_mib of all processes together; in radflow's also the parts of a step in seconds."""

PARTS = {
    "input": "waiting for films, and the loop itself",
    "forward_backward": "forward and backward pass",
    "reduce": "sum over ranks, mean",
    "update": "optimiser",
    "logging": "progress, metrics",
}


def main() -> None:
    options = parse_options()
    torch = str(options.torch.absolute()) if options.torch else ""
    contestants = contestants_of(torch, available_cores())
    results: dict[tuple[str, int], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for repetition in range(options.repeats):
        for arch in options.arch:
            for batch in options.batch:
                for name, measure in contestants.items():
                    flags = [f"--arch={arch}", f"--batch={batch}", f"--image_size={options.image_size}"]
                    result = measure([*flags, f"--steps={options.steps}"], batch)
                    results[arch, batch][name].append(result)
                    speed = f"{result['images_per_second']:.2f} images/s, {result['peak_mib']:.0f} MiB"
                    print(f"{repetition + 1}/{options.repeats} {arch} batch {batch} {name}: {speed}", file=sys.stderr)
    number_format = "bfloat16" if supports_bfloat16() else "float32"
    print(f"{available_cores()} cores, {options.image_size} px, radflow and PyTorch in {number_format}\n")
    print(speed_table(results))
    print(memory_table(results))
    print(parts_table(results))
    if options.figure:
        draw_parts(results, options.figure)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=tuple(ARCHITECTURES))
    parser.add_argument("--batch", nargs="+", type=int, default=(16, 64))
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a measurement, after two that are not")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch", type=Path, help="Python of an environment with torch and torchvision")
    parser.add_argument("--figure", type=Path, help="PNG of where a step's time goes")
    return parser.parse_args()


def contestants_of(torch: str, cores: int) -> dict[str, Callable[[list[str], int], Result]]:
    """Each takes the flags of a measurement and its batch."""
    contestants = {
        "Keras fit": lambda flags, _: run_alone([sys.executable, "-m", "benchmarks.keras_fit", *flags]),
        "radflow train": lambda flags, _: run_alone([sys.executable, "-m", "benchmarks.radflow_steps", *flags]),
        "radflow distributed": run_distributed,
    }
    if torch:
        line = ["env", *KEEP_MEMORY, torch, str(REPOSITORY / "benchmarks" / "torch_steps.py")]
        precision = ["--autocast"] if supports_bfloat16() else []
        contestants["PyTorch"] = lambda flags, _: run_alone([*line, *flags, *precision, f"--threads={cores}"])
        contestants[f"{cores} x PyTorch"] = lambda flags, _: run_together(
            [[*line, *flags, *precision, "--threads=1", f"--core={core}"] for core in sorted(os.sched_getaffinity(0))]
        )
    return contestants


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


def speed_table(results: dict) -> str:
    """Medians over the repetitions, in images/s, and the ratios of radflow to the others."""
    names = list(next(iter(results.values())))
    pairs = [("radflow train", "Keras fit"), ("radflow distributed", "Keras fit")]
    if "PyTorch" in names:
        pairs += [("radflow train", "PyTorch"), ("radflow distributed", names[-1])]
    headings = ["network", "batch", *names, *(f"{a} / {b}" for a, b in pairs)]
    rows = []
    for (arch, batch), measured in results.items():
        speeds = {name: [result["images_per_second"] for result in measured[name]] for name in names}
        cells = [f"{statistics.median(values):.2f}" for values in speeds.values()]
        cells += [ratio(speeds[a], speeds[b]) for a, b in pairs]
        rows.append([arch, str(batch), *cells])
    return markdown_table(headings, rows, align="ll" + "r" * (len(headings) - 2)) + "\n"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Median of the ratios within each repetition, and the smallest and largest of them."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    spread = f" ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"**{statistics.median(ratios):.2f}**{spread}"


def memory_table(results: dict) -> str:
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


def parts_table(results: dict) -> str:
    headings = ["share of a step, %", "batch", "as", *PARTS.values()]
    rows = []
    for (arch, batch), measured in results.items():
        for name in ("radflow train", "radflow distributed"):
            shares = shares_of(measured, name).values()
            rows.append([arch, str(batch), name, *(f"{100 * share:.2f}" for share in shares)])
    return markdown_table(headings, rows, align="lll" + "r" * len(PARTS)) + "\n"


def draw_parts(results: dict, path: Path) -> None:
    """A bar for each row of the table, as long as the step, with its parts in it."""
    from matplotlib.figure import Figure

    from radflow.plots.style import AMBER, BLUE, DPI, GREEN, ORANGE, PURPLE, WIDTH

    rows = [
        (f"{arch}, batch {batch}\n{name.removeprefix('radflow ')}", shares_of(measured, name))
        for (arch, batch), measured in results.items()
        for name in ("radflow train", "radflow distributed")
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
