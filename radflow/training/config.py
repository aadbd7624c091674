"""Settings of a training; flags, MLproject parameters and config files all come from these dataclasses."""

# Annotations are evaluated here: those of a subclass in another module could not be, and become flags all the same.
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cyclopts import Parameter

from radflow.cluster.launchers.table import LauncherName
from radflow.data.augmentation import AugmentationConfig
from radflow.errors import UserError
from radflow.models.config import ModelConfig
from radflow.optim.auto_settings import choose_first_batches, choose_warmup
from radflow.optim.config import Auto, OptimizerConfig
from radflow.training.loss_config import LossConfig

Ranks = Auto | int


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What single-process and distributed training share."""

    data: str = "sample"
    """Dataset made by `preprocess`, a folder or s3://bucket/prefix; `sample` is phantom films, made on first use."""
    out: str = "runs"
    """Folder for checkpoints and predictions; each job makes its own folder in it."""
    epochs: Auto | int = "auto"
    """Passes over the training films; auto is as many as make 150 optimiser steps, from 3 to 50."""
    model: Annotated[ModelConfig, Parameter(name="*")] = field(default_factory=ModelConfig)
    optim: Annotated[OptimizerConfig, Parameter(name="*")] = field(default_factory=OptimizerConfig)
    objective: Annotated[LossConfig, Parameter(name="*")] = field(default_factory=LossConfig)
    augmentation: Annotated[AugmentationConfig, Parameter(name="*")] = field(default_factory=AugmentationConfig)
    threads: Auto | int = "auto"
    """Threads of a rank; 0 is an equal share of the node's cores, auto what is fastest here where that was measured."""
    seed: int = 0
    """Seed of the initial weights, the order of films and their augmentation."""
    snapshots: int = 0
    """Models at the ends of this many last cycles, averaged (schedule=cyclic); 0 keeps the best epoch instead."""
    early_stopping: int = 0
    """Epochs without a better validation AUC after which training ends; 0 is never."""
    resume: str = "none"
    """Folder of a job to resume, or auto: the newest unfinished one in `out` with the same settings."""
    checkpoint_minutes: float = 10.0
    """Time between checkpoints inside an epoch; there is one after each epoch and on SIGTERM anyway."""
    deterministic: bool = False
    """Same numbers on every repetition on one machine, at some cost of speed."""
    assess: bool = True
    """Predict the test films and log the model; trials of a search do neither."""
    config: str = ""
    """YAML file of these parameters; a parameter given with another value than its default wins over the file."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.epochs != "auto" and self.epochs < 1:
            raise UserError(f"epochs={self.epochs} must be auto or at least 1")
        if self.threads != "auto" and self.threads < 0:
            raise UserError(
                f"threads={self.threads} must be auto, 0 (an equal share of the cores) or a positive number"
            )
        if self.seed < 0:
            raise UserError(f"seed={self.seed} must be 0 or positive")
        if self.early_stopping < 0:
            raise UserError(f"early_stopping={self.early_stopping} must be 0 (never) or a positive number of epochs")
        if not 0 <= self.checkpoint_minutes < float("inf"):
            raise UserError(f"checkpoint_minutes={self.checkpoint_minutes} must be 0 (after each step) or positive")
        if self.optim.frozen_epochs and self.initial_weights == "none":
            raise UserError(
                f"frozen_epochs={self.optim.frozen_epochs:g} with weights=none would freeze random weights; "
                "give weights, or frozen_epochs=0"
            )
        if self.snapshots:
            self._check_snapshots()
        if self.epochs != "auto":
            self.check_epochs(self.epochs)

    def _check_snapshots(self) -> None:
        if self.optim.schedule != "cyclic":
            raise UserError(f"snapshots={self.snapshots} are taken at the ends of cycles; give schedule=cyclic")
        if not 0 < self.snapshots <= self.optim.cycles:
            raise UserError(f"snapshots={self.snapshots} must be at least 1 and at most cycles={self.optim.cycles}")
        if self.early_stopping:
            raise UserError("early_stopping would end training before the last snapshot; leave it at 0")

    def check_epochs(self, epochs: int) -> None:
        """Raise UserError unless all that is counted in epochs fits into so many."""
        cycles, frozen = self.optim.cycles, self.optim.frozen_epochs
        warmup_epochs = choose_warmup(self.optim, epochs)
        if self.optim.schedule == "cyclic" and cycles > epochs - warmup_epochs:
            raise UserError(
                f"cycles={cycles} of an epoch or more do not fit into epochs={epochs} "
                f"after warmup_epochs={warmup_epochs:g}; give fewer cycles or more epochs"
            )
        if self.snapshots and (epochs - warmup_epochs) % cycles:
            raise UserError(
                f"snapshots are taken after whole epochs, but cycles={cycles} do not divide the "
                f"{epochs - warmup_epochs:g} epochs after warm-up; give epochs = warmup_epochs + a multiple of cycles"
            )
        if frozen and frozen >= epochs:
            raise UserError(
                f"frozen_epochs={frozen:g} of epochs={epochs} would leave the body none to "
                "learn in; give more epochs or fewer of them frozen"
            )

    @property
    def told_threads(self) -> int:
        """Threads of a rank as they were given, or measured; 0 is an equal share."""
        return 0 if self.threads == "auto" else self.threads

    @property
    def records_timeline(self) -> bool:
        """Whether an epoch's operations over ranks are recorded; one process has none."""
        return False

    @property
    def sends_float16(self) -> bool:
        """Whether gradients travel between ranks as float16; one process sends none."""
        return False

    @property
    def initial_weights(self) -> str:
        """What the body starts from."""
        return self.model.weights

    def run_name(self, dataset: str) -> str:
        """Name of the MLflow run on a dataset of this name."""
        return f"{self.model.arch}-{dataset}"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingConfig):
    """Train a classifier in one process."""

    bz: int = 16
    """Batch size in films."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        if self.bz < 1:
            raise UserError(f"bz={self.bz} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class DistributedConfig(TrainingConfig):
    """Train a classifier with Horovod on several ranks."""

    gbz: int = 64
    """Global batch: films of one optimiser step over all ranks and micro-steps."""
    gbz_schedule: str = "auto"
    """Smaller global batches at first: none; 256:2,1024:3, 2 epochs of 256 and 3 of 1024; auto, where steps are few."""
    lbz: Auto | int = "auto"
    """Largest local batch: films that one rank computes at a time; auto is 16, or up to 64 of fewer than 224 px."""
    np: Ranks = "auto"
    """Number of ranks; auto fits them to the cores, or fills the slots of hosts."""
    hosts: str = ""
    """Machines and their slots, as node1:2,node2:2, or a file of them, as ./hostfile with lines like node1 slots=2."""
    launcher: LauncherName = "auto"
    """What starts the ranks; auto is the first that can, or nothing where a scheduler has started them already."""
    ssh_agent: str = ""
    """Command that starts a program on another host, as ssh -p 2222; empty is ssh."""
    interface: str = ""
    """Network interfaces, or addresses as 10.0.0.0/24, by which hosts reach each other; empty is any."""
    allreduce_precision: Literal["float32", "float16"] = "float32"
    """Number format in which gradients travel between ranks; float16 halves the bytes, which a slow network needs."""
    stall_seconds: float = 120.0
    """Seconds without progress after which a rank is given up; never below four times the longest step seen."""
    max_restarts: int = 2
    """How often ranks are started again from the last checkpoint when one died, hung, or lost its host."""
    timeline: bool = False
    """Whether to log Horovod's timeline of the second epoch, for chrome://tracing or ui.perfetto.dev."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        if self.gbz < 1:
            raise UserError(f"gbz={self.gbz} must be at least 1")
        if self.lbz != "auto" and self.lbz < 1:
            raise UserError(f"lbz={self.lbz} must be auto or at least 1")
        if not self.stall_seconds > 0:
            raise UserError(f"stall_seconds={self.stall_seconds:g} must be above 0")
        if self.max_restarts < 0:
            raise UserError(f"max_restarts={self.max_restarts} must be 0 (none) or positive")
        self._given_first_batches()

    def check_epochs(self, epochs: int) -> None:
        """Raise UserError unless all that is counted in epochs fits into so many."""
        super().check_epochs(epochs)
        if len(self._given_first_batches()) >= epochs:
            raise UserError(f"gbz_schedule={self.gbz_schedule} leaves none of epochs={epochs} to gbz={self.gbz}")

    def largest_local_batch(self, image_size: int) -> int:
        """`lbz`, or as many films of `image_size` pixels as take the memory of 16 of 224 px, from 16 to 64.

        Batch normalisation needs 16, and more than 64 are not computed faster.
        """
        if self.lbz != "auto":
            return self.lbz
        return min(64, max(16, 16 * 224**2 // image_size**2))

    @property
    def records_timeline(self) -> bool:
        """Whether the user wants the timeline."""
        return self.timeline

    @property
    def sends_float16(self) -> bool:
        """Whether gradients travel between ranks as float16."""
        return self.allreduce_precision == "float16"

    def first_global_batches(self, films: int, ranks: int) -> tuple[int, ...]:
        """Smaller global batches of the first epochs, one each, in a training on so many films."""
        is_by_rule = self.gbz_schedule == self.epochs == "auto" and self.optim.schedule != "cyclic"
        return choose_first_batches(self.gbz, films, ranks) if is_by_rule else self._given_first_batches()

    def _given_first_batches(self) -> tuple[int, ...]:
        return () if self.gbz_schedule == "auto" else parse_gbz_schedule(self.gbz_schedule, self.gbz)


def parse_gbz_schedule(text: str, gbz: int) -> tuple[int, ...]:
    """Global batch of each epoch of a schedule such as 256:2,1024:3, none of which is above `gbz`.

    Raises UserError for anything else but none.
    """
    batches: list[int] = []
    for stage in [] if text == "none" else text.split(","):
        batch, _, epochs = stage.strip().partition(":")
        if not (batch.isdecimal() and epochs.isdecimal() and int(batch) and int(epochs)):
            raise UserError(
                f"gbz_schedule={text}: {stage!r} is not GBZ:EPOCHS, both at least 1; "
                "give for example gbz_schedule=256:2,1024:3, or none"
            )
        if int(batch) > gbz:
            raise UserError(f"gbz_schedule={text} goes above gbz={gbz}; give smaller batches")
        batches += [int(batch)] * int(epochs)
    return tuple(batches)
