"""Findings that need more than one source: decoy scans, distributed scans."""
