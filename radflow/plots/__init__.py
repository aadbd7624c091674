"""Figures and tables, in one look."""
