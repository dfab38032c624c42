"""The helper: a program that edits hosts.deny and runs the command as root, for the daemon.

The daemon runs with CAP_NET_ADMIN alone, so it asks this small program, over a UNIX socket, with
one request a connection. The helper reads what to do from the configuration, which only root
writes. From the daemon it accepts addresses and words about an incident, and checks them.

systemd starts it at the first request (sentryfw-respond.socket). A daemon that root starts by
hand forks it before it drops its privileges.

See docs/decisions.md: root-helper.
"""

import argparse
import os
import select
import signal
import socket
import stat
import sys
import threading
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, NoReturn

from sentryfw.config.files import DIRECTORY, drop_ins
from sentryfw.config.respond import Respond
from sentryfw.control import framing
from sentryfw.control.peer import peer_of
from sentryfw.errors import ReactionFailed, SentryError
from sentryfw.host import last_good
from sentryfw.respond.command import CommandRunner
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import reason_of
from sentryfw.respond.undo import undo_unwanted

MAX_LINE_BYTES: Final = 16 << 20
"""Bytes of a request or an answer."""
MAX_FIELD_CHARS: Final = 300
ANSWER_TIMEOUT_S: Final = 15.0
"""Seconds for an edit of hosts.deny, which may have to wait for the lock of its directory."""
ACCEPT_LIMIT: Final = 64
"""Connections that may wait to be accepted."""
SPARE_COUNT: Final = 2
"""Requests about hosts.deny that are served in addition to the commands."""
LISTEN_FD: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

Request = dict[str, Any]


# --- the daemon's side


class HelperClient:
    """Asks the helper. The methods raise ReactionFailed."""

    def __init__(self, path: Path, config: Respond) -> None:
        """`path`: the helper's socket."""
        self._path = path
        self._command_timeout = config.command.timeout + ANSWER_TIMEOUT_S

    def run_command(self, incident: Incident) -> str:
        """Run the command about an incident; return a line about its end."""
        request = {"do": "command", "incident": incident._asdict()}
        return str(self._ask(request, self._command_timeout))

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove lines of hosts.deny; see HostsDenyFile.apply()."""
        self._ask({"do": "apply", "changes": changes}, ANSWER_TIMEOUT_S)
        return {}

    def sync(self, addresses: set[str]) -> None:
        """Make the lines of hosts.deny those of exactly these addresses."""
        self._ask({"do": "sync", "addresses": sorted(addresses)}, ANSWER_TIMEOUT_S)

    def _ask(self, request: Request, timeout: float) -> object:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(timeout)
                client.connect(str(self._path))
                if peer_of(client).uid != 0:
                    raise ReactionFailed(f"{self._path}: does not belong to root")
                client.sendall(framing.encode(request))
                answer = framing.read(client.makefile("rb"), MAX_LINE_BYTES) or {}
        except (OSError, ValueError) as error:
            raise ReactionFailed(
                f"{self._path}: {reason_of(error)}: run `sentryfw install`, which creates it"
            ) from error
        if "done" not in answer:
            raise ReactionFailed(str(answer.get("failed", f"{self._path}: the helper ended")))
        return answer["done"]


# --- root's side


class HelperServer:
    """Serves requests of one user and root, each in a thread."""

    def __init__(self, config: Respond, users: set[int], path: Path | None = None) -> None:
        """`users`: user ids that may ask; `path`: that of the configuration, None: the default."""
        self._users = users
        self._config, self._path = config, path
        deny = config.hosts_deny
        self._deny = HostsDenyFile(deny.path, deny.line) if deny.enabled else None
        self._runner = CommandRunner(config.command) if config.command.argv else None
        self._places = threading.BoundedSemaphore(config.command.concurrency + SPARE_COUNT)

    def serve(self, listener: socket.socket) -> None:
        """Serve until the listener is shut down."""
        with suppress(OSError):
            while True:
                self._places.acquire()
                try:
                    client, _ = listener.accept()
                except BaseException:
                    self._places.release()
                    raise
                threading.Thread(target=self._serve_one, args=(client,), daemon=True).start()

    def end(self) -> NoReturn:
        """End this process at once, and every command that runs."""
        if self._runner is not None:
            self._runner.kill()
        os._exit(0)

    def _serve_one(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError):
                client.settimeout(ANSWER_TIMEOUT_S)
                if peer_of(client).uid not in self._users:
                    return
                client.sendall(framing.encode(self._answer(client)))
        finally:
            self._places.release()

    def _answer(self, client: socket.socket) -> Request:
        try:
            request = framing.read(client.makefile("rb"), MAX_LINE_BYTES)
            return {"done": self._perform(request or {}, client)}
        except SentryError as error:
            return {"failed": reason_of(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"failed": f"not a valid request: {reason_of(error)}"}

    def _perform(self, request: Request, client: socket.socket) -> object:
        match request["do"]:
            case "command" if self._runner is not None:
                return self._runner(_incident(request["incident"]), client.fileno())
            case "apply" if self._deny is not None:
                changes = request["changes"].items()
                self._deny.apply({_address(text): bool(present) for text, present in changes})
                return True
            case "sync" if self._deny is not None:
                self._deny.sync({_address(text) for text in request["addresses"]})
                return True
            case "sync" if not request["addresses"]:  # hosts.deny was switched off
                undo_unwanted(self._path, self._config, routes=False)
                return True
            case other:
                raise ReactionFailed(f"{other!r} is not configured")


def _incident(given: Request) -> Incident:
    """Return the incident in a request. Raise ValueError if a field could be more than a word."""
    incident = Incident(**given)._replace(kinds=tuple(given["kinds"]))
    ip_address(incident.ip)
    _address(incident.address)
    for text in incident.fields().values():
        if len(text) > MAX_FIELD_CHARS or not (text.isascii() and text.isprintable()):
            raise ValueError("a field is too long or not printable ASCII")
        if text.startswith("-"):
            raise ValueError("a field looks like an option")
    return incident


def _address(text: object) -> str:
    """Return the text of an address or network. Raise ValueError if it is neither."""
    return str(text) if ip_network(str(text)) else ""


# --- start


def fork(respond: Respond, path: Path, uid: int) -> int:
    """Fork a child that serves a user and ends with its parent; return its process id.

    Call this as root, before threads are started.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    os.chown(path, uid, -1)
    listener.listen(ACCEPT_LIMIT)
    lifeline, ours = os.pipe()  # PR_SET_PDEATHSIG would need the parent's right to signal root
    child = os.fork()
    if child:
        listener.close()
        os.close(lifeline)  # `ours` stays open as long as this process lives
        return child
    try:
        os.close(ours)
        server = HelperServer(respond, {0, uid})
        threading.Thread(
            target=_end_with, args=([lifeline, _terminations()], server), daemon=True
        ).start()
        server.serve(listener)
    finally:
        os._exit(1)


def _terminations() -> int:
    """Return a descriptor that is readable after SIGTERM. The handler itself does nothing: it could
    run while its thread holds the lock that end() takes. SIGINT is for the daemon alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    return readable


def _end_with(descriptors: list[int], server: HelperServer) -> NoReturn:
    """End when one of them is readable: the daemon's end of the lifeline is closed, or SIGTERM."""
    select.select(descriptors, [], [])
    server.end()


def check_owner(path: Path) -> None:
    """Raise SentryError if another user than root could write the configuration."""
    for place in (path, path.parent, path.parent / DIRECTORY, *drop_ins(path)):
        try:
            status = place.stat()
        except FileNotFoundError:
            continue  # of the configuration file and conf.d one is enough
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SentryError(
                f"{place}: owned by uid {status.st_uid} with mode"
                f" {stat.S_IMODE(status.st_mode):o}: commands run as root come from it, so it"
                " must belong to root and be writable by root alone"
            )


def main() -> None:
    """Serve for systemd, which passes the listening socket as descriptor 3."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    parser = argparse.ArgumentParser(prog="sentryfw-respond")
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument(
        "--user", type=int, required=True, help="user id that may ask, in addition to root"
    )
    arguments = parser.parse_args()
    try:
        check_owner(arguments.config)
        # With a fault the last good one, so that the lines of blocks that end are removed.
        loaded = last_good.usable(arguments.config)
    except (SentryError, OSError) as error:
        sys.stderr.write(f"sentryfw-respond: {error}\n")
        sys.exit(getattr(error, "exit_code", 1))
    listener = socket.socket(fileno=LISTEN_FD)
    users = {0, arguments.user}
    HelperServer(loaded.respond, users, arguments.config).serve(listener)


if __name__ == "__main__":
    main()
