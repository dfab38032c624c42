"""Setup: what changes the machine when SentryFW is installed or removed."""
