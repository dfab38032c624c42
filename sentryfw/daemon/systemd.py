"""sd_notify(3), without libsystemd.

See docs/decisions.md: sd-notify.
"""

import logging
import os
import socket
from typing import Final

log: Final = logging.getLogger("sentryfwd")


def notify(state: str) -> None:
    """Send a state, "READY=1", to the service manager; do nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)  # packets must not wait for a manager that does not read
        try:
            sock.sendto(state.encode(), address.replace("@", "\0", 1))
        except OSError as error:
            log.warning("NOTIFY_SOCKET %s: %s", address, error)
