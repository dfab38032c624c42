"""Firewalls share their blocks; the word of another one is weighed."""
