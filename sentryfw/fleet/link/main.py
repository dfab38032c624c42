"""Entry point of sentryfw-link.

It has no capability and no rights but these: to ask the daemon for signed entries, to hand others
over, and to connect with the hub. It keeps nothing: it may be killed at any moment.
"""

import argparse
import logging
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Final

from sentryfw import __version__
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, SentryError
from sentryfw.fleet.link.back_off import HubBackOff
from sentryfw.fleet.link.daemon_side import DaemonSide
from sentryfw.fleet.link.hub import Hub
from sentryfw.fleet.link.link_report import LinkReport, ReportFile
from sentryfw.fleet.link.relay import Receiving, Sending, run
from sentryfw.host import last_good, signals
from sentryfw.text import plain

log: Final = logging.getLogger("sentryfw-link")

REPORT_INTERVAL_S: Final = 1.0
NO_HUB: Final = "there is no hub: set [fleet.hub] url, or run `sentryfw fleet join`"


def main() -> None:
    """Run the command sentryfw-link."""
    signals.leave_to_kernel()  # it keeps nothing: any signal may end it
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    parser = argparse.ArgumentParser(
        prog="sentryfw-link", description="Carry entries between SentryFW and its fleet's hub."
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE")
    parser.add_argument("--version", action="version", version=f"sentryfw-link {__version__}")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        serve(last_good.usable(arguments.config and arguments.config.absolute()))
    except SentryError as error:
        sys.stderr.write(plain(f"sentryfw-link: {error}\n", keep="\n"))
        sys.exit(error.exit_code)


def serve(loaded: Config) -> None:
    """Carry entries until the process ends. Raise SentryError without a hub."""
    fleet = loaded.fleet
    if not fleet.hub.is_on:
        fault = SentryError(NO_HUB)
        fault.exit_code = ConfigError.exit_code  # systemd tries that no second time
        raise fault
    report = LinkReport(fleet.hub.url or ", ".join(fleet.hub.sentinels))
    daemon = DaemonSide(loaded.paths.control)
    threading.excepthook = _end
    for direction in (
        Sending(Hub(fleet.hub, fleet.name), daemon, report, fleet.name),
        Receiving(Hub(fleet.hub, fleet.name), daemon, report, time.monotonic),
    ):
        back_off = HubBackOff(random.SystemRandom().random)
        threading.Thread(
            target=run, args=(direction, report, back_off, time.sleep), daemon=True
        ).start()
    file = ReportFile(loaded.paths.link_status)
    while True:
        try:
            file.write(report, time.time())
        except OSError as error:  # entries are carried all the same
            log.warning("%s: %s", loaded.paths.link_status, error.strerror)
        time.sleep(REPORT_INTERVAL_S)


def _end(fault: threading.ExceptHookArgs) -> None:
    """End the process with a thread that a fault of ours has ended: it is started again."""
    threading.__excepthook__(fault)
    os._exit(1)


if __name__ == "__main__":
    main()
