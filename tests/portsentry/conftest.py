"""PortSentry's files, as an administrator has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

MakeEtc = Callable[..., Path]

CONF = """\
TCP_PORTS="1,11,15"
UDP_PORTS="7,9"
ADVANCED_PORTS_TCP="1024"
ADVANCED_PORTS_UDP="1024"
ADVANCED_EXCLUDE_TCP="113,139"
ADVANCED_EXCLUDE_UDP="520,138,137,67"
IGNORE_FILE="/etc/portsentry/portsentry.ignore"
HISTORY_FILE="/var/lib/portsentry/portsentry.history"
BLOCKED_FILE="/var/lib/portsentry/portsentry.blocked"
"""


@pytest.fixture
def make_etc(tmp_path: Path) -> MakeEtc:
    """A root with PortSentry's files: conf (added to CONF), other files by their absolute path."""

    def make(conf: str = "", *, base: str = CONF, **files: str | bytes) -> Path:
        given = {"/etc/portsentry/portsentry.conf": base + conf, **files}
        for name, content in given.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "etc/portsentry"

    return make
