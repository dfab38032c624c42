"""Other systems that act on our blocks: routers, and CrowdSec's bouncers."""
