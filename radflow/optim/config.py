"""How weights are updated and how fast."""

# Annotations are evaluated here: those of a subclass in another module could not be, and become flags all the same.
from dataclasses import dataclass
from typing import Literal

from radflow.errors import UserError

Auto = Literal["auto"]
"""What leaves a setting to the rule (`radflow.optim.auto_settings`)."""
OptimizerName = Literal["adam", "adamw", "adadelta", "sgd", "nesterov", "lars", "lamb", "muon"]
Scaling = Literal["linear", "sqrt", "none"]
ScheduleName = Literal["constant", "cosine", "polynomial", "step", "plateau", "cyclic"]

WITH_MOMENTUM = ("sgd", "nesterov", "lars", "muon")
WITH_WEIGHT_DECAY = ("adamw", "lars", "lamb", "muon")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser, scaled learning rate and its schedule."""

    optimizer: Auto | OptimizerName = "auto"
    """Update rule; nesterov is sgd with Nesterov's momentum, lars and lamb adapt the rate of each layer, muon makes
    the update of each kernel orthogonal."""
    momentum: float = 0.9
    """Momentum of sgd, nesterov, lars and muon."""
    weight_decay: float = 0.0
    """Weight decay of adamw, lars, lamb and muon; biases and normalisations do not decay."""
    base_lr: Auto | float = "auto"
    """Learning rate at the base batch; auto is chosen by optimiser, network and initial weights."""
    base_batch: int = 8
    """Batch size that base_lr belongs to."""
    lr_scaling: Auto | Scaling = "auto"
    """How the peak follows from base_lr: linear, x batch / base_batch; sqrt, x its square root; none, as it is."""
    warmup_epochs: Auto | float = "auto"
    """Epochs over which the learning rate climbs from near zero to its peak; fractions are allowed."""
    ema: float = 0.0
    """Decay of a moving average of the weights that is evaluated and saved instead of them, such as 0.99; 0 is none."""
    schedule: ScheduleName = "cosine"
    """Decay after warm-up; step is the paper's x0.1 an epoch from epoch 50, plateau x0.1 when the loss stalls."""
    cycles: int = 4
    """Number of cycles of the cyclic schedule: cosines from peak to zero after warm-up, each of the same length."""
    body_lr_factor: float = 1.0
    """Learning rate of the body as a factor on that of the new head, above 0; 0.1 is usual with pre-trained weights."""
    frozen_epochs: float = 0.0
    """Epochs at the start in which the body, its batch statistics included, stays as `weights` has it."""

    def __post_init__(self) -> None:
        """Check ranges, and that no setting is given to what does not use it."""
        self._check_learning_rate()
        if not 0 <= self.ema < 1:
            raise UserError(f"ema={self.ema} must be 0 (no average) or a decay below 1, such as 0.99")
        if not 0 < self.body_lr_factor < float("inf"):
            raise UserError(
                f"body_lr_factor={self.body_lr_factor} must be a positive factor on the learning rate; "
                "a body that does not move for some epochs is frozen_epochs"
            )
        if not 0 <= self.frozen_epochs < float("inf"):
            raise UserError(f"frozen_epochs={self.frozen_epochs} must be 0 or positive")
        self._check_update_rule()
        self._check_cycles()

    @property
    def treats_body_apart(self) -> bool:
        """Whether body and head differ in rate or start."""
        return self.body_lr_factor != 1 or self.frozen_epochs > 0

    def _check_learning_rate(self) -> None:
        if self.base_lr != "auto" and not 0 < self.base_lr < float("inf"):
            raise UserError(f"base_lr={self.base_lr} must be auto or a positive number")
        if self.warmup_epochs != "auto" and not 0 <= self.warmup_epochs < float("inf"):
            raise UserError(f"warmup_epochs={self.warmup_epochs} must be auto, 0 or positive")
        if self.base_batch < 1:
            raise UserError(f"base_batch={self.base_batch} must be at least 1; lr_scaling=none takes base_lr as it is")
        if self.base_batch != OptimizerConfig.base_batch and (self.base_lr == "auto" or self.lr_scaling == "none"):
            given = "base_lr=auto" if self.base_lr == "auto" else "lr_scaling=none"
            raise UserError(
                f"base_batch={self.base_batch} has no effect with {given}; "
                f"give base_lr with a scaling, or leave base_batch at {OptimizerConfig.base_batch}"
            )

    def _check_update_rule(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum={self.momentum} must be at least 0 and less than 1")
        if not 0 <= self.weight_decay < 1:
            raise UserError(f"weight_decay={self.weight_decay} must be at least 0 and less than 1")
        if self.weight_decay and self.optimizer not in ("auto", *WITH_WEIGHT_DECAY):
            raise UserError(_unused("weight_decay", self.weight_decay, "optimizer", self.optimizer, WITH_WEIGHT_DECAY))
        if self.momentum != OptimizerConfig.momentum and self.optimizer not in WITH_MOMENTUM:
            raise UserError(_unused("momentum", self.momentum, "optimizer", self.optimizer, WITH_MOMENTUM))
        if self.optimizer == "nesterov" and not self.momentum:
            raise UserError("momentum=0 leaves nesterov nothing to look ahead with; give optimizer=sgd")

    def _check_cycles(self) -> None:
        if self.cycles < 1:
            raise UserError(f"cycles={self.cycles} must be at least 1")
        if self.cycles != OptimizerConfig.cycles and self.schedule != "cyclic":
            raise UserError(_unused("cycles", self.cycles, "schedule", self.schedule, ("cyclic",)))


def _unused(setting: str, value: float, choice: str, chosen: str, users: tuple[str, ...]) -> str:
    return (
        f"{setting}={value} has no effect with {choice}={chosen}; give {choice}={' or '.join(users)}, "
        f"or leave {setting} at {getattr(OptimizerConfig, setting)}"
    )
