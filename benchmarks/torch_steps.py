"""PyTorch's contestant, as it is fastest on CPUs: channels_last, bfloat16 autocast where there is any; or compiled too.

`benchmarks.training` starts it so that it keeps the memory that it has freed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from measurement import FINDINGS, WARM_UP_STEPS, parser, result, wait_for_others

try:
    from torchvision import models
except RuntimeError:
    # PyPI's torchvision is built for CUDA; beside a torch for CPUs it misses two operators that no network here uses.
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from torchvision import models


def network(arch: str) -> torch.nn.Module:
    """The same layers as radflow's: one dense layer of 14 outputs after global average pooling."""
    if arch == "vgg16":
        body = models.vgg16(weights=None).features
        return torch.nn.Sequential(
            body, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, FINDINGS)
        )
    return getattr(models, arch)(weights=None, num_classes=FINDINGS)


def training(model: torch.nn.Module, films: torch.Tensor, given: argparse.Namespace) -> Callable[[], None]:
    """A training step by Adam."""
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = torch.nn.BCEWithLogitsLoss()
    labels = (torch.rand(given.batch, FINDINGS) < 0.1).float()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=given.autocast):
            logits = model(films)
        loss_of(logits.float(), labels).backward()
        optimizer.step()

    return step


def prediction(model: torch.nn.Module, films: torch.Tensor, given: argparse.Namespace) -> Callable[[], None]:
    """Probabilities of films."""

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=given.autocast):
            torch.sigmoid(model(films).float())

    return step


def main() -> None:
    options = parser()
    options.add_argument("--threads", type=int, required=True)
    options.add_argument("--core", type=int)
    options.add_argument("--autocast", action="store_true")
    options.add_argument(
        "--compile", action="store_true", help="by torch.compile, which takes minutes before the first step"
    )
    options.add_argument("--predict", action="store_true", help="the forward pass alone, as a model is used")
    given = options.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = network(given.arch).to(memory_format=torch.channels_last).train(not given.predict)
    if given.compile:
        model = torch.compile(model)
    films = torch.rand(given.batch, 3, given.image_size, given.image_size).to(memory_format=torch.channels_last)
    step = prediction(model, films, given) if given.predict else training(model, films, given)
    ends = []
    for number in range(WARM_UP_STEPS + given.steps):
        step()
        if number + 1 == WARM_UP_STEPS:
            wait_for_others()
        ends.append(time.perf_counter())
    steps = [end - start for start, end in zip(ends[WARM_UP_STEPS - 1 :], ends[WARM_UP_STEPS:], strict=False)]
    print(result(given.batch, steps))


if __name__ == "__main__":
    main()
