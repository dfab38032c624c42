"""install and uninstall: the table, the state on disk, the service."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentryfw import config as configuration
from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.errors import NotRunning, SentryError
from sentryfw.netfilter import host
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.install import Installed, install, plan, uninstall
from sentryfw.netfilter.table import Table
from sentryfw.record.ledger import Ledger
from sentryfw.respond.undo import undo

Say = Callable[[str], None]

UNIT: Final = Path("/etc/systemd/system/sentryfw.service")
SYSTEMD: Final = Path("/run/systemd/system")
STOP_PATIENCE: Final = 3.0

UNIT_TEXT: Final = """\
[Unit]
Description=SentryFW port-scan defence
Documentation=man:sentryfw(8)
After=network-pre.target nftables.service firewalld.service ufw.service docker.service
Wants=network-pre.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={daemon} --config {config}
Restart=on-failure
RestartSec=2
RuntimeDirectory=sentryfw
StateDirectory=sentryfw
LogsDirectory=sentryfw
RuntimeDirectoryMode=0750
StateDirectoryMode=0750
LogsDirectoryMode=0750
UMask=0027
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def dry_run(config: Config, table: Table) -> str:
    """The script that install would load; nothing is changed."""
    return plan(table, config, host.never_block(config)).ruleset.script


def run_install(
    config: Config, table: Table, config_path: Path | None, say: Say, *, service: bool
) -> Installed:
    """Install or update; says what is protected and what was done."""
    protected = _protect(config, say)
    installed = install(table, config, protected)
    planned = installed.plan
    verb = "updated" if planned.update else "installed"
    say(f"{verb} table inet sentryfw; divert: {planned.divert}; live blocks kept: {installed.kept}")
    if service:
        _install_service(config_path, say)
    return installed


def run_uninstall(config: Config, table: Table, say: Say, *, purge: bool) -> None:
    """Take everything of ours out of the kernel; with `purge` off the disk too."""
    _remove_service(say)
    _stop_daemon(config)
    for what in undo(config.respond, None):
        say(f"removed {what}")
    say("removed table inet sentryfw" if uninstall(table) else "there was no table to remove")
    if purge:
        for path in _purge(config):
            say(f"removed {path}")


def _protect(config: Config, say: Say) -> list[Protected]:
    """The never-block sources; SSH peers are remembered, so that the daemon spares them too."""
    with Ledger(config.paths.ledger) as ledger:
        if config.never_block.ssh_peers:
            for address in host.ssh_peers():
                ledger.protect(str(address), "ssh peer", time.time())
                say(f"{address} is never blocked: you are connected from there by SSH")
        return host.never_block(config, host.remembered(ledger.protected()))


def _install_service(config_path: Path | None, say: Say) -> None:
    if not SYSTEMD.is_dir():
        say("no systemd here: start sentryfwd by other means")
        return
    daemon = Path(sys.argv[0]).resolve().with_name("sentryfwd")
    path = (config_path or configuration.DEFAULT_PATH).resolve()
    if config_path is None and not path.exists():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.touch(mode=0o644)
    UNIT.write_text(UNIT_TEXT.format(daemon=daemon, config=path))
    _systemctl("daemon-reload")
    _systemctl("enable", "sentryfw.service")
    _systemctl("restart", "sentryfw.service")
    say("service sentryfw enabled and started")


def _remove_service(say: Say) -> None:
    if not UNIT.exists():
        return
    if SYSTEMD.is_dir():
        _systemctl("disable", "--now", "sentryfw.service")
    UNIT.unlink()
    if SYSTEMD.is_dir():
        _systemctl("daemon-reload")
    say("service sentryfw stopped and removed")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SentryError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")


def _stop_daemon(config: Config) -> None:
    """Ask the daemon to stop and wait until it has: it must not put the table back."""
    try:
        ask(config.paths.control, {"do": "stop"})
        end = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < end:
            ask(config.paths.control, {"do": "status"})
            time.sleep(0.02)
    except NotRunning:
        return
    raise SentryError("the daemon does not stop: stop it first (systemctl stop sentryfw)")


def _purge(config: Config) -> list[Path]:
    """Delete what we wrote; directories only where nothing else is left in them."""
    paths = config.paths
    ledger = paths.ledger
    files = [
        ledger, Path(f"{ledger}-wal"), Path(f"{ledger}-shm"),
        paths.events, paths.lock, paths.control, configuration.DEFAULT_PATH,
    ]  # fmt: skip
    if config.respond.history.format != "off":
        files.append(config.respond.history.path)
    removed = []
    for path in files:
        if path.exists() and not path.is_symlink():
            path.unlink()
            removed.append(path)
    parents = (paths.state, paths.runtime, paths.log, configuration.DEFAULT_PATH.parent)
    for directory in parents:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
            removed.append(directory)
    return removed
