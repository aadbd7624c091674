"""What training minimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from radflow.errors import UserError

UncertainRule = Literal["ignore", "zeros", "ones", "soft"]
"""What training makes of an uncertain label: nothing, absent, present, or probably present."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Binary cross-entropy of each finding, and what may be done about few positives among many negatives."""

    loss: Literal["bce", "focal", "asymmetric"] = "bce"
    """bce is cross-entropy; focal plays down easy films, asymmetric only those without the finding."""
    pos_weight: Literal["none", "balanced"] = "none"
    """Weight of positive films; balanced is negatives / positives of each finding in the training split."""
    pos_weight_cap: float = 20.0
    """Largest balanced weight, and the inverse of the smallest."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss (Lin et al. 2017)."""
    asymmetric_gamma: float = 4.0
    """Exponent of the asymmetric loss for negatives; positives have 0 (Ben-Baruch et al. 2021)."""
    asymmetric_margin: float = 0.05
    """Probability below which a negative costs nothing in the asymmetric loss."""
    label_smoothing: float = 0.0
    """Share of a label that is spread over both classes."""
    uncertain: str = "ignore"
    """Use of labels that are uncertain: ignore, zeros, ones or soft (0.7); or by finding, as Edema:ones,zeros."""

    def __post_init__(self) -> None:
        """Check ranges, and that no setting is given to what does not use it."""
        for name in ("focal_gamma", "asymmetric_gamma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)} must be 0 or positive")
        if not 1 <= self.pos_weight_cap < float("inf"):
            raise UserError(f"pos_weight_cap={self.pos_weight_cap} must be at least 1")
        for name in ("asymmetric_margin", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 0 and less than 1")
        parse_uncertain(self.uncertain)
        self._check_used("focal_gamma", "loss", "focal")
        self._check_used("asymmetric_gamma", "loss", "asymmetric")
        self._check_used("asymmetric_margin", "loss", "asymmetric")
        self._check_used("pos_weight_cap", "pos_weight", "balanced")

    @property
    def exponents_and_margin(self) -> tuple[float, float, float]:
        """Exponent of positives, exponent of negatives, margin: what tells the three losses apart."""
        if self.loss == "focal":
            return self.focal_gamma, self.focal_gamma, 0.0
        return (0.0, self.asymmetric_gamma, self.asymmetric_margin) if self.loss == "asymmetric" else (0.0, 0.0, 0.0)

    def _check_used(self, setting: str, choice: str, user: str) -> None:
        value, default = getattr(self, setting), getattr(LossConfig, setting)
        if value != default and getattr(self, choice) != user:
            raise UserError(
                f"{setting}={value} has no effect with {choice}={getattr(self, choice)}; "
                f"give {choice}={user}, or leave {setting} at {default}"
            )


def parse_uncertain(text: str) -> tuple[UncertainRule, dict[str, UncertainRule]]:
    """The rule of all findings, `ignore` unless given, and those of single ones; raises `UserError`."""
    others: list[UncertainRule] = []
    rules: dict[str, UncertainRule] = {}
    for part in text.split(","):
        finding, _, rule = part.strip().rpartition(":")
        if rule not in get_args(UncertainRule) or finding in rules or (not finding and others):
            expected = ", ".join(get_args(UncertainRule))
            raise UserError(
                f"uncertain={text}: {part.strip()!r} is not a rule of its own; expected one of {expected} for all "
                "findings, after those of single ones, as Edema:ones,zeros"
            )
        if finding:
            rules[finding] = cast(UncertainRule, rule)
        else:
            others.append(cast(UncertainRule, rule))
    return (others or ["ignore"])[0], rules


def rules_of_findings(text: str, findings: Sequence[str]) -> list[UncertainRule]:
    """The rule of each finding of a dataset; raises `UserError` for a rule of a finding that it has not."""
    others, rules = parse_uncertain(text)
    if missing := sorted(rules.keys() - set(findings)):
        raise UserError(f"uncertain={text}: the dataset has no finding {missing[0]}; it has {', '.join(findings)}")
    return [rules.get(finding, others) for finding in findings]
