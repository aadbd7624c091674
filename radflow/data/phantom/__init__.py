"""Phantom films, which stand for real ones that may not be shared."""
