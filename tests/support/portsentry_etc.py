"""PortSentry's files as an administrator has them, and their import."""

from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.imported import Imported
from sentryfw.tools.portsentry.render import render

CONF: Final = """\
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


def write_etc(root: Path, conf: str = "", *, base: str = CONF, **files: str | bytes) -> Path:
    """Write PortSentry's files below a root: `conf` is added to `base`, other files have absolute
    paths. Return the directory of portsentry.conf."""
    given = {"/etc/portsentry/portsentry.conf": base + conf, **files}
    for name, content in given.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root / "etc/portsentry"


def import_etc(etc: Path, tcp: str | None = None, udp: str | None = None) -> Imported:
    """Import PortSentry's files."""
    return convert(collect(etc), tcp, udp)


def config_of(imported: Imported) -> Config:
    """Return the configuration of an import, parsed from its text."""
    return config.parse(render(imported).encode(), "imported")


def reasons(imported: Imported) -> str:
    """Return the reasons for the options that were not carried over."""
    return "\n".join(remark.said for remark in imported.unmapped)
