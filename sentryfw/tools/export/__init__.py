"""Exports of blocks, for other firewalls and for abuse reports."""
