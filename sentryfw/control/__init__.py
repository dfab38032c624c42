"""The control socket: its client, and the server in the daemon."""
