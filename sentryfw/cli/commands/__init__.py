"""The commands: the signature and the body of each; those of a topic are in one module."""
