"""Figures for Prometheus: what they are, and the ways out of the daemon."""
