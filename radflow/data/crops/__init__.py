"""Crops of mammograms: around lesions, and of normal tissue."""
