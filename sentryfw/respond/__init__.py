"""Reactions: what else follows from a decision, off the packet path."""
