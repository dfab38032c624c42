"""The files of a fleet's hub, and those by which a firewall joins it."""
