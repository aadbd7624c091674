"""Prediction of training on many ranks from measurements on a few."""
