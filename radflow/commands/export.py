"""`python -m radflow export`: a model from MLflow in the format of another program."""

from __future__ import annotations

from pathlib import Path

from radflow.cluster.threads import set_threads
from radflow.inference.exported_model import export_classifier
from radflow.inference.loaded_model import load_classifier
from radflow.terminal import import_tensorflow, say
from radflow.tracking.connection import prepare_tracking


def export(model: str, kind: str, out: Path) -> None:
    """Write a model into a new folder and hold it to its golden film; raises UserError and JobError."""
    set_threads(0)
    import_tensorflow()
    prepare_tracking()
    folder = export_classifier(load_classifier(model), kind, out)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"the golden film is reproduced; {kind}, {size / 2**20:.1f} MiB: {folder}")
