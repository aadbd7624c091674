"""Phantom mammograms in the layout of CBIS-DDSM."""
