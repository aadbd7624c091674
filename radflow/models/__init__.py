"""Backbones with a choice of normalisation, and the classifier around them."""
