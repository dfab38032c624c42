"""Measurements: ratios in one run, medians of several. `make bench`."""
