"""Optimisers, learning-rate scaling and schedules."""
