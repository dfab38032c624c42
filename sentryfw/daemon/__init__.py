"""The daemon: one process that judges packets, and everything scheduled around it."""
