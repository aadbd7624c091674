"""Films a second of the forward pass: radflow's `predict` beside the saved model's layers, training and PyTorch.

    make bench-quick                                # makes PyTorch's venv
    python -m benchmarks.forward --torch=.venv-torch/bin/python --arch densenet121 --batch 16

Films lie in memory, each contestant is a process of its own with all cores, and repetitions are interleaved. PyTorch
computes in inference mode, channels_last and with bfloat16 autocast where the CPU has it, eagerly and by torch.compile
with its weights frozen, so that it folds normalisations into convolutions. It ends where other processes are at work,
and measures again what the machine's speed has moved under: see `benchmarks/quiet.py`.
"""

from __future__ import annotations

import sys

from benchmarks.training import (
    KEEP_MEMORY,
    REPOSITORY,
    TORCH,
    Measure,
    Results,
    conditions,
    measure_all,
    memory_table,
    one_process,
    options_parser,
    path_of_torch,
    ratio,
    with_spread,
)
from radflow.cpu import available_cores
from radflow.models.precision import supports_bfloat16
from radflow.plots.tables import markdown_table

OURS = "predict"


def main() -> None:
    options = options_parser(__doc__).parse_args()
    results = measure_all(options, contestants_of(path_of_torch(options), available_cores()))
    print(conditions(options))
    print(speed_table(results))
    print(memory_table(results))


def contestants_of(torch: str, cores: int) -> dict[str, Measure]:
    """Each takes the flags of a measurement and its batch."""
    line = [sys.executable, "-m", "benchmarks.forward_steps"]
    contestants = {
        OURS: one_process([*line, "--way=predict"]),
        "saved layers": one_process([*line, "--way=keras"]),
        "in training": one_process([*line, "--way=training"]),
    }
    if torch:
        line = [torch, str(REPOSITORY / "benchmarks" / "torch_steps.py"), "--predict", f"--threads={cores}"]
        line += ["--autocast"] if supports_bfloat16() else []
        contestants[TORCH] = one_process(["env", *KEEP_MEMORY, *line])
        contestants[f"{TORCH}, compiled"] = one_process(
            ["env", *KEEP_MEMORY, "TORCHINDUCTOR_FREEZING=1", *line, "--compile"]
        )
    return contestants


def speed_table(results: Results) -> str:
    names = list(next(iter(results.values())))
    others = [name for name in names if name != OURS] if OURS in names else []
    rows = []
    for (arch, batch), measured in results.items():
        speeds = {name: [result["images_per_second"] for result in measured[name]] for name in names}
        cells = [with_spread(values) for values in speeds.values()]
        rows.append([arch, str(batch), *cells, *(ratio(speeds[OURS], speeds[other]) for other in others)])
    headings = ["network", "batch", *names, *(f"{OURS} / {other}" for other in others)]
    return markdown_table(headings, rows, align="ll" + "r" * (len(headings) - 2)) + "\n"


if __name__ == "__main__":
    main()
