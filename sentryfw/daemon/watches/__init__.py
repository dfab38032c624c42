"""Watches beside the packet path: they read the table, and report."""
