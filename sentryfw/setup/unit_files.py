"""The files that systemd reads, rendered from the templates in sentryfw/data.

See docs/decisions.md: vendor-files, boot-id.
"""

import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.model import Config, Paths
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.host.account import Account

UNIT: Final = "sentryfw.service"
FILES: Final = {
    UNIT: "systemd/system/sentryfw.service",
    "sysusers.conf": "sysusers.d/sentryfw.conf",
    "tmpfiles.conf": "tmpfiles.d/sentryfw.conf",
    "modules-load.conf": "modules-load.d/sentryfw.conf",
}
"""The templates in sentryfw/data, and the places below /etc where install writes them."""
LOGROTATE: Final = "logrotate.d/sentryfw"
"""The place below /etc of logrotate's file. A package has it there, as its own."""
HELPER: Final = ("sentryfw-respond.socket", "sentryfw-respond.service")
"""The units of the helper for reactions that need root; installed if one is configured."""
HELPER_FILES: Final = {name: f"systemd/system/{name}" for name in HELPER}
LINK: Final = "sentryfw-link.service"
"""The unit of the link to a fleet's hub; installed if there is one."""
LINK_PLACE: Final = f"systemd/system/{LINK}"
PACKAGED: Final = Path("/usr/lib/sentryfw")
"""The place of the program where a package installed it, which the AppArmor profile is for."""
PROFILE: Final = "sentryfwd"
"""The name of that profile (packaging/apparmor)."""
HOMES: Final = tuple(map(Path, ("/home", "/root", "/run/user")))
"""The directories that ProtectHome= hides."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.:@+,=-]+")
_LOGROTATE_PATH: Final = re.compile(r"[A-Za-z0-9/_.:@+,= -]+")
_TOKEN: Final = re.compile(r"@([A-Z]+)@")


class Service(NamedTuple):
    """The values that the templates are rendered with."""

    daemon: Path
    config: Path
    paths: Paths
    writable: tuple[Path, ...] = ()
    """Directories of other programs that the daemon writes to."""
    prefix: Path = Path(sys.prefix)
    python: Path = Path(sys.executable)


def template(name: str) -> str:
    """Return the text of a template."""
    return (resources.files("sentryfw") / "data" / name).read_text()


def rendered(service: Service) -> dict[str, str]:
    """Return the text of every file but the helper's, by the name of its template."""
    texts = {name: template(name) for name in FILES}
    lines = texts["modules-load.conf"].splitlines(keepends=True)
    texts["modules-load.conf"] = "".join(ln for ln in lines if ln[0] == "#" or _has_module(ln))
    values = _values(service)
    return {name: _filled_in(text, values) for name, text in texts.items()}


def rendered_helper(service: Service, owner: Account, names: tuple[str, ...]) -> dict[str, str]:
    """Return the text of the helper's units. `owner`: the user whose requests it accepts."""
    values = {
        "CONFIG": word(service.config),
        "PYTHON": word(Path(sys.executable)),
        "SOCKET": word(service.paths.helper),
        "UID": str(owner.uid),
        "USER": account.USER,
    }
    return {name: _filled_in(template(name), values) for name in names}


def rendered_link(service: Service) -> str:
    """Return the text of the link's unit."""
    return _filled_in(template(LINK), _values(service))


def rendered_logrotate(config: Config) -> str:
    """Return logrotate's file for these logs. Raise SentryError for a path that it would take for
    a pattern."""
    logs = (config.paths.events, config.respond.history.path)
    for path in logs:
        if not _LOGROTATE_PATH.fullmatch(str(path)):
            raise SentryError(f"{path}: logrotate would take it for a pattern: rotate it otherwise")
    words = " ".join(f'"{path}"' if " " in str(path) else str(path) for path in logs)
    return _filled_in(template("logrotate.conf"), {"LOGS": words, "USER": account.USER})


def word(path: Path) -> str:
    """Return a path as one word of a unit file, safe from specifiers and variables. Raise
    SentryError if it has control characters."""
    text = str(path)
    if not text.isprintable():
        raise SentryError(f"{text!r} has control characters, which a unit file cannot express")
    escaped = text.replace("%", "%%")
    if _PLAIN.fullmatch(escaped):
        return escaped
    quoted = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{quoted}"'


def _filled_in(text: str, values: dict[str, str]) -> str:
    return _TOKEN.sub(lambda match: values[match[1]], text)


def _values(service: Service) -> dict[str, str]:
    paths = service.paths
    return {
        "DAEMON": word(service.daemon),
        "PROGRAM": word(service.daemon.with_name("sentryfw")),
        "LINK": word(service.daemon.with_name("sentryfw-link")),
        "REPORT": paths.link_status.parent.name,
        "CONFIG": word(service.config),
        "USER": account.USER,
        "STATE": word(paths.state),
        "RUNTIME": word(paths.runtime),
        "LOG": word(paths.log),
        "DIRECTORIES": _directories(paths, service.writable),
        "HOME": "read-only" if _is_below_a_home(service) else "yes",
        "PROFILE": _profile(service),
    }


def _profile(service: Service) -> str:
    """Return the line of the AppArmor profile, where that allows what this service writes.

    A profile that denies it would end the defence. "-": a host without AppArmor, or without the
    profile, starts the service all the same (systemd.exec(5)).
    """
    fits = service.paths == Paths() and not service.writable and not _is_below_a_home(service)
    is_packaged = service.daemon.is_relative_to(PACKAGED)
    return f"AppArmorProfile=-{PROFILE}" if fits and is_packaged else ""


def _directories(paths: Paths, writable: tuple[Path, ...]) -> str:
    """Return the lines of the writable directories. systemd creates those at the default paths;
    install creates the others. A directory of another program may be missing."""
    lines, others = [], []
    default = Paths()
    for key, name in (("State", "state"), ("Runtime", "runtime"), ("Logs", "log")):
        path = getattr(paths, name)
        if path == getattr(default, name):
            lines += [f"{key}Directory={path.name}", f"{key}DirectoryMode=0750"]
        else:
            others.append(word(path))
    others += (word(Path(f"-{path}")) for path in writable)
    return "\n".join([*lines, *([f"ReadWritePaths={' '.join(others)}"] if others else [])])


def _is_below_a_home(service: Service) -> bool:
    """Return whether ProtectHome=yes would hide the program or its configuration."""
    used = (service.daemon, service.config, service.prefix, service.python.resolve())
    return any(path.is_relative_to(home) for path in used for home in HOMES)


def _has_module(line: str) -> bool:
    """Return whether the kernel has a module, built in or loadable: systemd-modules-load fails at
    boot for a missing one."""
    modprobe = shutil.which("modprobe")
    if modprobe is None:
        return False
    command = [modprobe, "--dry-run", "--quiet", line.strip()]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
