"""Metrics for Prometheus: their families, and the two ways out of the daemon."""
