"""Predictions assessed: AUC with intervals, curves, reports."""
