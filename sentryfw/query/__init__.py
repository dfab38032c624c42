"""Queries: the data of list, status, explain and watch, for the CLI and the control socket."""
