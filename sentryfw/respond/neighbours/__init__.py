"""Other systems that act on our blocks: routers."""
