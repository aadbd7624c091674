"""From predictions to figures: AUC with intervals, curves, reports."""
