"""Settings of `predict` and `evaluate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from radflow.errors import UserError

TABLE_SUFFIXES = (".csv", ".parquet")

Rule = Literal["youden", "sensitive", "specific"]
"""How a model's thresholds were chosen, as evaluation/thresholds.py says."""
Thresholds = Rule | Literal["none"] | float
"""Probability from which a finding counts as present: the model's, by a rule; no such columns; or one for all."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluate a model on any dataset: its own test films, or those of another hospital."""

    model: str = "models:/radflow-chest-densenet121@champion"
    """Any MLflow model URI of a model that radflow trained."""
    data: str = "sample"
    """Dataset made by `preprocess`, a folder or s3://bucket/prefix; `sample` stands for the phantom films."""
    split: Literal["auto", "val", "test", "all"] = "auto"
    """Films to evaluate on; auto is test of the dataset that the model was trained on, and all of any other."""
    overlap: Literal["refuse", "allow"] = "refuse"
    """What to do where patients of these films were trained on: their AUCs would be too high."""
    subgroups: str = "sex,age,view"
    """Columns of the films by which results are divided, with commas: sex, age, view, side, pathology, dataset."""
    subgroup_table: str = ""
    """CSV file with a column image_id, or patient_id, and others by which results are divided too."""
    out: str = "runs"
    """Folder for the predictions; each job makes its own folder in it."""
    threads: int = 0
    """Threads of the computation; 0 is one a core."""


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Average several trained models, and their mirror images, into one that is registered and used like any other."""

    runs: str = ""
    """Ids of trainings, or MLflow model URIs, with commas: of the same findings and film size."""
    mirrored: bool = False
    """Whether each model also judges the mirror image of a film (test-time augmentation), which doubles the time."""
    data: str = "sample"
    """Dataset on which the ensemble is calibrated (validation films) and tested; the one that the models share."""
    out: str = "runs"
    """Folder for the predictions; each job makes its own folder in it."""
    threads: int = 0
    """Threads of the computation; 0 is one a core."""

    def __post_init__(self) -> None:
        """Check what is given; that something is, is for `members` to check."""
        if self.runs:
            self.members  # noqa: B018 - raises for what is no ensemble

    @property
    def members(self) -> tuple[str, ...]:
        """URI of each model; raises UserError where there is no mean to take."""
        names = [name.strip() for name in self.runs.split(",") if name.strip()]
        if len(set(names)) < len(names):
            raise UserError(f"runs={self.runs} names a model twice; name each once")
        if len(names) < (1 if self.mirrored else 2):
            raise UserError(f"runs={self.runs} names {len(names)} models; give two, or one and mirrored=true")
        return tuple(f"runs:/{name}/model" if re.fullmatch(r"[0-9a-f]{32}", name) else name for name in names)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Write the probabilities of all findings for a folder of films."""

    model: str = "models:/radflow-chest-densenet121@champion"
    """Any MLflow model URI of a model that radflow trained."""
    input: str = "sample"
    """A film, or a folder of PNG, JPEG, JPEG 2000, TIFF, PGM and DICOM films searched in depth; sample stands for the
    phantom films."""
    output: str = "predictions.csv"
    """Table to write, .csv or .parquet; films that cannot be read are listed beside it in *.rejected.csv too."""
    thresholds: str = "youden"
    """Probability from which above/FINDING is true: a number, or by a rule that chose it on validation films: youden
    (sensitivity + specificity largest), sensitive (sensitivity 90 %) or specific (specificity 90 %); none leaves the
    columns out."""
    calibrated: bool = True
    """Probabilities as calibrated on validation films; false for the network's own, which rank films just so."""
    heatmaps: str = ""
    """Folder for pictures of where in a film the evidence for a finding lies; empty draws none."""
    heatmap_findings: int = 0
    """Draw that many findings of each film, the most probable ones; 0 draws those above their thresholds."""
    features: str = ""
    """Parquet file for what the model makes of each film before it weighs the findings (embeddings); empty writes
    none."""
    threads: int = 0
    """Threads of the computation; 0 is one a core."""

    def __post_init__(self) -> None:
        """Check the output's format and what belongs together before anything is computed."""
        if Path(self.output).suffix not in TABLE_SUFFIXES:
            raise UserError(f"output={self.output} must end in .csv or .parquet")
        if self.features and Path(self.features).suffix != ".parquet":
            raise UserError(f"features={self.features} must end in .parquet")
        if self.heatmap_findings < 0 or (self.heatmap_findings and not self.heatmaps):
            raise UserError(
                f"heatmap_findings={self.heatmap_findings} must be a number of findings beside heatmaps=FOLDER"
            )
        self.chosen_thresholds  # noqa: B018 - raises for what is none

    @property
    def chosen_thresholds(self) -> Thresholds:
        """`thresholds` as a word or a number."""
        if self.thresholds in (*get_args(Rule), "none"):
            return cast(Thresholds, self.thresholds)
        try:
            probability = float(self.thresholds)
        except ValueError:
            probability = -1.0
        if not 0 <= probability <= 1:
            rules = ", ".join(get_args(Rule))
            raise UserError(f"thresholds={self.thresholds} must be {rules}, none or a probability from 0 to 1")
        return probability
