"""Peak memory of a training step by batch: radflow's `train` beside PyTorch.

    make bench-quick                                # makes PyTorch's venv
    python -m benchmarks.memory --torch=.venv-torch/bin/python --batch 4 16 32 --figure=PICTURE.png

Every measurement is a process of its own with all cores, in the number format that `precision=auto` takes. Memory does
not depend on the machine's speed: other work may go on beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.training import (
    TORCH,
    TRAIN,
    Measure,
    Result,
    Results,
    conditions,
    contestants_of,
    memory_table,
    path_of_torch,
)
from radflow.cpu import available_cores
from radflow.models.backbones import ARCHITECTURES
from radflow.plots.style import BLUE, GREY, new_figure, tidy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=tuple(ARCHITECTURES))
    parser.add_argument("--batch", nargs="+", type=int, default=(4, 16, 32))
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--torch", type=Path, help="Python of an environment with torch and torchvision")
    parser.add_argument("--figure", type=Path, help="PNG of memory by batch")
    options = parser.parse_args()
    known = contestants_of(path_of_torch(options), available_cores())
    contestants = {name: known[name] for name in (TRAIN, TORCH) if name in known}
    results: Results = {
        (arch, batch): {name: [measure(each, arch, batch, options.image_size)] for name, each in contestants.items()}
        for arch in options.arch
        for batch in options.batch
    }
    print(conditions(options))
    print(memory_table(results))
    if options.figure:
        draw(results, options.figure)


def measure(contestant: Measure, arch: str, batch: int, image_size: int) -> Result:
    """What a process of three steps comes to."""
    return contestant([f"--arch={arch}", f"--batch={batch}", f"--image_size={image_size}", "--steps=1"], batch)


def draw(results: Results, path: Path) -> None:
    """A panel for each network: memory by batch, a line for each contestant."""
    networks = [arch for arch in ARCHITECTURES if any(arch == measured for measured, _ in results)]
    figure = new_figure("Peak memory of a training step", height=3.6)
    for axes, arch in zip(figure.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
        of_arch = {batch: measured for (other, batch), measured in results.items() if other == arch}
        for name, colour in zip(next(iter(of_arch.values())), (BLUE, GREY), strict=False):
            peaks = [measured[name][0]["peak_mib"] / 1024 for measured in of_arch.values()]
            axes.plot(list(of_arch), peaks, color=colour, marker="o", label=name)
        axes.set_title(arch, loc="left", fontsize=11)
        axes.set_xlabel("Films in a batch")
        axes.set_xticks(list(of_arch))
        axes.set_ylim(bottom=0)
        tidy(axes)
    figure.axes[0].set_ylabel("GiB")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
