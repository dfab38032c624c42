"""Decoys: ports that look open. One listener without privileges, and the daemon's end of it."""
