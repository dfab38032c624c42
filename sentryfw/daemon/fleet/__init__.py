"""The fleet in the daemon: what goes out, and what comes in."""
