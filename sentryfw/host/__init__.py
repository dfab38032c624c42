"""This host: the sources that it depends on, the daemon's user and rights, private files."""
