"""The service: its files below /etc, its user, and its state in systemd.

All of it is done by root at install, so that the daemon needs no privilege for it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import sentryfw.config
from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.host.account import Account
from sentryfw.host.private_files import open_no_link
from sentryfw.setup.accounts import create_account, own_directories
from sentryfw.setup.unit_files import (
    FILES,
    HELPER,
    HELPER_FILES,
    LINK,
    LINK_PLACE,
    LOGROTATE,
    UNIT,
    Service,
    rendered,
    rendered_helper,
    rendered_link,
    rendered_logrotate,
    template,
)

Say = Callable[[str], None]

ETC: Path = Path("/etc")
VENDOR: Path = Path("/usr/lib")
"""The place where a distribution's package has the files that `install` writes below ETC."""
SYSTEMD: Path = Path("/run/systemd/system")
"""A directory that exists if systemd is running (sd_booted(3))."""


def prepare(config: Config, config_path: Path | None, say: Say) -> None:
    """Create the user. Raise SentryError, before anything else is changed, if the service would
    not start as that user."""
    service = Service(_daemon(), _config_file(config_path), config.paths)
    owner = _account(say)
    if SYSTEMD.is_dir():
        _check_access(owner, service)


def install(config: Config, config_path: Path | None, say: Say) -> None:
    """Create the directories. If systemd is running, install, enable and start the service. Raise
    SentryError if one of the steps fails. prepare() was called before."""
    textfile = config.metrics.textfile
    writable = () if textfile is None else (textfile.parent,)
    service = Service(_daemon(), _config_file(config_path), config.paths, writable)
    owner = _account(say)
    own_directories(config.paths, owner)
    _provide_logrotate(config, say)
    if not SYSTEMD.is_dir():
        say(f"systemd is not running: start {service.daemon} by other means; it then runs as"
            f" {account.USER}")  # fmt: skip
        return
    wanted = HELPER if config.respond.needs_root else ()
    _remove_helper(keep=wanted)
    for name, text in (rendered(service) | rendered_helper(service, owner, wanted)).items():
        _provide((FILES | HELPER_FILES)[name], text)
    has_hub = config.fleet.hub.is_on
    if has_hub:
        _account(say, account.LINK_USER)
        _provide(LINK_PLACE, rendered_link(service))
    else:
        _remove_link()
    _systemctl("daemon-reload")
    for unit in (*wanted[:1], UNIT, *([LINK] if has_hub else [])):
        _systemctl("enable", unit)
        _systemctl("restart", unit)
    say(f"service sentryfw enabled and started, as user {account.USER}")
    if has_hub:
        say(f"service sentryfw-link enabled and started, as user {account.LINK_USER}")


def is_installed() -> bool:
    """Return whether the service's unit file exists."""
    return any((root / FILES[UNIT]).exists() for root in (ETC, VENDOR))


def remove(say: Say) -> None:
    """Stop the service and remove its files. The user stays, because it may own files."""
    exists = is_installed()
    if exists and SYSTEMD.is_dir():
        _systemctl("disable", "--now", UNIT)
    _remove_helper()
    _remove_link()
    places = FILES.values() if _is_packaged() else (*FILES.values(), LOGROTATE)
    for place in places:
        (ETC / place).unlink(missing_ok=True)
    if exists:
        if SYSTEMD.is_dir():
            _systemctl("daemon-reload")
        say("service sentryfw stopped and removed")


def _remove_helper(keep: tuple[str, ...] = ()) -> None:
    for name, place in HELPER_FILES.items():
        if name in keep or not (ETC / place).exists():
            continue
        if SYSTEMD.is_dir():
            _systemctl(*(("disable", "--now") if name.endswith(".socket") else ("stop",)), name)
        (ETC / place).unlink()


def _remove_link() -> None:
    """End the link; a package's unit stays, but is not started any more."""
    if SYSTEMD.is_dir() and any((root / LINK_PLACE).exists() for root in (ETC, VENDOR)):
        _systemctl("disable", "--now", LINK)
    (ETC / LINK_PLACE).unlink(missing_ok=True)


def _account(say: Say, name: str | None = None) -> Account:
    """Return the daemon's user, or another one, which is created if it does not exist."""
    found = account.find(name)
    if found is not None:
        return found
    place = ETC / FILES["sysusers.conf"]
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(place, template("sysusers.conf").replace("@USER@", account.USER))
    return create_account(place, say, name)


def _check_access(owner: Account, service: Service) -> None:
    """Run `sentryfw check` as the daemon's user. Raise SentryError if it cannot use the program or
    read the configuration: a service that does not start would hide the reason."""
    program = service.daemon.with_name("sentryfw")
    try:
        done = subprocess.run(
            [program, "-c", service.config, "check"], capture_output=True, text=True, check=False,
            cwd="/", user=owner.uid, group=owner.gid, extra_groups=(),
        )  # fmt: skip
    except PermissionError:  # a directory above it is private
        why = "permission denied"
    else:
        if done.returncode == 0:
            return
        why = done.stderr.strip()
    raise SentryError(
        f"nothing was installed: the daemon runs as user {account.USER}, who cannot use {program}"
        f" with {service.config}: {why}\nInstall SentryFW where every user can read it (/opt,"
        " /usr/local; from pipx 1.5 on: pipx install --global), and make the configuration readable"
    )


def _daemon() -> Path:
    """Return the path of sentryfwd, next to the program that was started, to the file that this is
    a link to, or to its interpreter."""
    started = Path(sys.argv[0]).absolute()
    for neighbour in (started, started.resolve(), Path(sys.executable)):
        daemon = neighbour.with_name("sentryfwd")
        if daemon.is_file():
            return daemon
    raise SentryError(
        f"sentryfwd is not next to {sys.argv[0]} or {sys.executable}: install it there"
    )


def _config_file(config_path: Path | None) -> Path:
    """Return the path of the configuration; the default one is created, empty, if it is missing."""
    path = (config_path or sentryfw.config.DEFAULT_PATH).resolve()
    if config_path is None and not path.exists():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.touch(mode=0o644)
    return path


def _is_packaged() -> bool:
    """Return whether a package brought the unit, and with it logrotate's file."""
    return (VENDOR / FILES[UNIT]).exists()


def _provide_logrotate(config: Config, say: Say) -> None:
    if _is_packaged():
        return
    try:
        _provide(LOGROTATE, rendered_logrotate(config))
    except SentryError as error:
        say(str(error))


def _provide(place: str, text: str) -> None:
    """Write a file below ETC. If a package has the same text below VENDOR, that is used, so that a
    copy does not hide the package's next version."""
    ours, packaged = ETC / place, VENDOR / place
    if packaged.is_file() and packaged.read_text() == text:
        ours.unlink(missing_ok=True)
        return
    ours.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(ours, text)


def _write(path: Path, text: str) -> None:
    """Write a file of root's that every user can read; atomically, and never through a link."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(open_no_link(new, flags, 0o644), "w") as file:
        file.write(text)
    new.chmod(0o644)
    new.replace(path)


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SentryError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
