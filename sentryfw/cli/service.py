"""The service: its user, its directories, and the files that systemd reads. All of it is root's
work, done at install, so that the daemon needs no privilege for it."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import account
from sentryfw import config as configuration
from sentryfw.account import Account
from sentryfw.config import Config, Paths
from sentryfw.errors import SentryError

Say = Callable[[str], None]

ETC: Path = Path("/etc")
VENDOR: Path = Path("/usr/lib")
"""Where a distribution's package puts what `install` writes below ETC."""
SYSTEMD: Path = Path("/run/systemd/system")
UNIT: Final = "sentryfw.service"
FILES: Final = {
    UNIT: "systemd/system/sentryfw.service",
    "sysusers.conf": "sysusers.d/sentryfw.conf",
    "tmpfiles.conf": "tmpfiles.d/sentryfw.conf",
    "modules-load.conf": "modules-load.d/sentryfw.conf",
}
"""Shipped in sentryfw/data, and where install puts them under /etc."""
HELPER: Final = ("sentryfw-respond.socket", "sentryfw-respond.service")
"""What a reaction that needs root is left to; only where one is configured."""
HELPER_FILES: Final = {name: f"systemd/system/{name}" for name in HELPER}
HOMES: Final = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome= hides."""
PLAIN: Final = re.compile(r"[A-Za-z0-9/_.:@+,=-]+")

USERADD: Final = (
    "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
    "--shell", "/usr/sbin/nologin",
)  # fmt: skip
ADDUSER: Final = ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin")


class Service(NamedTuple):
    """What the files are filled in with."""

    daemon: Path
    config: Path
    paths: Paths
    writable: tuple[Path, ...] = ()
    """Directories of others that the daemon writes to."""
    prefix: Path = Path(sys.prefix)
    python: Path = Path(sys.executable)


def install(config: Config, config_path: Path | None, say: Say) -> None:
    """User, directories and, where systemd runs, the service: enabled and started."""
    textfile = config.metrics.textfile
    writable = () if textfile is None else (textfile.parent,)
    service = Service(_daemon(), _config_file(config_path), config.paths, writable)
    owner = _make_account(say)
    own_directories(config.paths, owner)
    if not SYSTEMD.is_dir():
        say(f"no systemd here: start {service.daemon} by other means; it becomes {account.USER}")
        return
    _try_as(owner, service)
    wanted = HELPER if config.respond.needs_root else ()
    _remove_helper(keep=wanted)
    for name, text in (rendered(service) | _rendered_helper(service, owner, wanted)).items():
        _provide((FILES | HELPER_FILES)[name], text)
    _systemctl("daemon-reload")
    for unit in wanted[:1]:
        _systemctl("enable", unit)
        _systemctl("restart", unit)
    _systemctl("enable", UNIT)
    _systemctl("restart", UNIT)
    say(f"service sentryfw enabled and started, as user {account.USER}")


def remove(say: Say) -> None:
    """Stop the service and take its files away; the user stays, files may still be its own."""
    there = any((root / FILES[UNIT]).exists() for root in (ETC, VENDOR))
    if there and SYSTEMD.is_dir():
        _systemctl("disable", "--now", UNIT)
    _remove_helper()
    for place in FILES.values():
        (ETC / place).unlink(missing_ok=True)
    if there:
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


def _rendered_helper(service: Service, owner: Account, names: tuple[str, ...]) -> dict[str, str]:
    """What serves the daemon with what needs root."""
    values = {
        "CONFIG": word(service.config),
        "PYTHON": word(Path(sys.executable)),
        "SOCKET": word(service.paths.helper),
        "UID": str(owner.uid),
        "USER": account.USER,
    }
    return {
        name: re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], template(name))
        for name in names
    }


def rendered(service: Service) -> dict[str, str]:
    """Every file, by its name in sentryfw/data."""
    texts = {name: template(name) for name in FILES}
    lines = texts["modules-load.conf"].splitlines(keepends=True)
    texts["modules-load.conf"] = "".join(ln for ln in lines if ln[0] == "#" or _has_module(ln))
    values = _values(service)
    return {
        name: re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)
        for name, text in texts.items()
    }


def template(name: str) -> str:
    return (resources.files("sentryfw") / "data" / name).read_text()


def _values(service: Service) -> dict[str, str]:
    paths = service.paths
    return {
        "DAEMON": word(service.daemon),
        "PROGRAM": word(service.daemon.with_name("sentryfw")),
        "CONFIG": word(service.config),
        "USER": account.USER,
        "STATE": word(paths.state),
        "RUNTIME": word(paths.runtime),
        "LOG": word(paths.log),
        "DIRECTORIES": _directories(paths, service.writable),
        "HOME": "read-only" if _lives_in_a_home(service) else "yes",
    }


def _directories(paths: Paths, writable: tuple[Path, ...]) -> str:
    """systemd makes and owns the usual ones; others were made by install, and are named. Those
    of others need not be there."""
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


def _lives_in_a_home(service: Service) -> bool:
    """Whether the program or its configuration is where ProtectHome=yes would hide it."""
    used = (service.daemon, service.config, service.prefix, service.python.resolve())
    return any(path.is_relative_to(home) for path in used for home in HOMES)


def word(path: Path) -> str:
    """A path as one word of a unit file: specifiers and variables are not expanded in it."""
    text = str(path)
    if not text.isprintable():
        raise SentryError(f"{text!r}: no path for a unit file: it has control characters")
    escaped = text.replace("%", "%%")
    if PLAIN.fullmatch(escaped):
        return escaped
    quoted = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{quoted}"'


def _has_module(line: str) -> bool:
    """Whether the kernel has it, built in or to load: a missing one fails the boot's loading."""
    modprobe = shutil.which("modprobe")
    if modprobe is None:
        return False
    command = [modprobe, "--dry-run", "--quiet", line.strip()]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- user and directories


def _make_account(say: Say) -> Account:
    """The daemon's user; made where it is missing, by whatever this system makes users with."""
    found = account.find()
    if found is not None:
        return found
    user = account.USER
    made = ETC / FILES["sysusers.conf"]
    made.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(made, template("sysusers.conf").replace("@USER@", user))
    said = []
    for command in (
        ("systemd-sysusers", str(made)),
        (*USERADD, user),
        ("addgroup", "-S", user),
        (*ADDUSER, "-G", user, user),
    ):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said.append(done.stderr.strip())
        found = account.find()
        if found is not None:
            say(f"made the system user {user}")
            return found
    raise SentryError(
        f"the system user {user} could not be made ({'; '.join(filter(None, said)) or 'no useradd'}"
        f"): make it, with a group of that name, and install again"
    )


def own_directories(paths: Paths, owner: Account) -> None:
    """Make the daemon's directories, or hand over what root's daemon left in them."""
    for path in (paths.state, paths.runtime, paths.log):
        try:
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            _hand_over(path, owner)
        except OSError as error:
            raise SentryError(f"{path}: {error.strerror}") from error


def _hand_over(path: Path, owner: Account) -> None:
    """Only out of root's hands, where nobody else can have put a link; links are not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, owner.uid) or status.st_mode & stat.S_IWOTH:
            raise SentryError(
                f"{path}: owned by uid {status.st_uid} with mode"
                f" {stat.S_IMODE(status.st_mode):o}; it must belong to {account.USER} or root,"
                " and not be writable by others"
            )
        if status.st_uid == owner.uid:
            return
        for _, folders, files, folder in os.fwalk(dir_fd=descriptor):
            for name in (*folders, *files):
                os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)
        os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, 0o750)
    finally:
        os.close(descriptor)


def _try_as(owner: Account, service: Service) -> None:
    """SentryError if the daemon's user cannot get at the program, or cannot read the
    configuration: found out here, and not by a service that does not start."""
    program = service.daemon.with_name("sentryfw")
    done = subprocess.run(
        [program, "-c", service.config, "check"], capture_output=True, text=True, check=False,
        cwd="/", user=owner.uid, group=owner.gid, extra_groups=(),
    )  # fmt: skip
    if done.returncode:
        raise SentryError(
            f"the daemon runs as user {account.USER}, who cannot use {program} with"
            f" {service.config}: {done.stderr.strip()}\nInstall SentryFW where everybody may read"
            " it (/opt, /usr/local), and make the configuration readable"
        )


def _daemon() -> Path:
    """sentryfwd, beside what was started, or beside the interpreter that runs it."""
    for beside in (Path(sys.argv[0]).absolute(), Path(sys.executable)):
        daemon = beside.with_name("sentryfwd")
        if daemon.is_file():
            return daemon
    raise SentryError(f"there is no sentryfwd beside {sys.argv[0]} or {sys.executable}")


def _config_file(config_path: Path | None) -> Path:
    """The configuration's path; the default one is made, empty, for an operator to fill."""
    path = (config_path or configuration.DEFAULT_PATH).resolve()
    if config_path is None and not path.exists():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.touch(mode=0o644)
    return path


def _provide(place: str, text: str) -> None:
    """One of our files below /etc; a package's own, where that says the same, is left to it, so
    that its next version is not hidden by a copy of this one."""
    ours, packaged = ETC / place, VENDOR / place
    if packaged.is_file() and packaged.read_text() == text:
        ours.unlink(missing_ok=True)
        return
    ours.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(ours, text)


def _write(path: Path, text: str) -> None:
    """A file of root's that everybody reads; in one piece, and never through a link."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o644), "w") as file:
        file.write(text)
    new.chmod(0o644)
    new.replace(path)


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SentryError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
