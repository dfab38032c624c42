"""The daemon's user in tests, and how a service manager starts a program as it."""

import os
import pwd
from pathlib import Path

from support.inprocess import SERVICE_USER


def service_user() -> pwd.struct_passwd:
    return pwd.getpwnam(SERVICE_USER)


def demoted(*capabilities: str) -> list[str]:
    """Return the setpriv(1) command that does as systemd: user, group, only these capabilities."""
    user = service_user()
    kept = ",".join(["-all", *capabilities])
    sets = [f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}"]
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, *sets, "--no-new-privs"]


def own(home: Path) -> None:
    """Make the daemon's directories below `home`, owned by its user."""
    user = service_user()
    home.chmod(0o755)
    for name in ("state", "runtime", "log"):
        (home / name).mkdir(mode=0o750)
        os.chown(home / name, user.pw_uid, user.pw_gid)
