"""What needs root, for a daemon that is not: hosts.deny and the external command.

The daemon runs with CAP_NET_ADMIN alone, so it asks this small program, over a UNIX socket, one
request a connection. It takes what it does from the configuration, which only root writes; from
the daemon it takes addresses and words about an incident, and checks them.

systemd starts it at the first request (sentryfw-respond.socket); a daemon that root starts by
hand makes it a child of its own before it gives up root.
"""

import argparse
import json
import os
import signal
import socket
import stat
import struct
import sys
import threading
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, NoReturn

from sentryfw import config
from sentryfw.config_files import DIRECTORY, drop_ins
from sentryfw.config_respond import Respond
from sentryfw.errors import SentryError
from sentryfw.respond.command import CommandRunner
from sentryfw.respond.hosts_deny import HostsDeny
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed, reason_of

MAX_REQUEST: Final = 16 << 20
MAX_TEXT: Final = 300
PATIENCE: Final = 15.0
"""Seconds that hosts.deny may take: its lock is waited for."""
LISTEN_FD: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

Request = dict[str, Any]


# --- the daemon's side


class Helper:
    """Asks the program behind a socket."""

    def __init__(self, path: Path, settings: Respond) -> None:
        self._path = path
        self._command_patience = settings.command.timeout + PATIENCE

    def run_command(self, incident: Incident) -> str:
        request = {"do": "command", "incident": incident._asdict()}
        return str(self._ask(request, self._command_patience))

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        self._ask({"do": "apply", "changes": changes}, PATIENCE)
        return {}

    def sync(self, addresses: set[str]) -> None:
        self._ask({"do": "sync", "addresses": sorted(addresses)}, PATIENCE)

    def _ask(self, request: Request, patience: float) -> object:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(patience)
                client.connect(str(self._path))
                if _peer(client) != 0:
                    raise Failed(f"{self._path}: not root's")
                client.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(client.makefile("rb").readline(MAX_REQUEST) or b"{}")
        except (OSError, ValueError) as error:
            raise Failed(
                f"{self._path}: {reason_of(error)}: `sentryfw install` makes it"
            ) from error
        if "done" not in answer:
            raise Failed(str(answer.get("failed", f"{self._path}: it ended")))
        return answer["done"]


# --- root's side


class Server:
    """Does what is asked, for one user and root."""

    def __init__(self, settings: Respond, users: set[int]) -> None:
        self._users = users
        deny = settings.hosts_deny
        self._deny = HostsDeny(deny.path, deny.line) if deny.enabled else None
        self._runner = CommandRunner(settings.command) if settings.command.argv else None
        self._places = threading.BoundedSemaphore(settings.command.concurrency + 2)

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is shut."""
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
        """At once, with every command that runs."""
        if self._runner is not None:
            self._runner.kill()
        os._exit(0)

    def _serve_one(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError):
                client.settimeout(PATIENCE)
                if _peer(client) not in self._users:
                    return
                line = client.makefile("rb").readline(MAX_REQUEST)
                client.sendall(json.dumps(self._answer(line, client)).encode() + b"\n")
        finally:
            self._places.release()

    def _answer(self, line: bytes, client: socket.socket) -> Request:
        try:
            request = json.loads(line)
            return {"done": self._do(request, client)}
        except SentryError as error:
            return {"failed": reason_of(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"failed": f"no request: {reason_of(error)}"}

    def _do(self, request: Request, client: socket.socket) -> object:
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
            case other:
                raise Failed(f"{other!r} is not configured")


def _incident(given: Request) -> Incident:
    """The incident in a request. ValueError where a word could be more than a word."""
    incident = Incident(**given)._replace(kinds=tuple(given["kinds"]))
    ip_address(incident.ip)
    _address(incident.address)
    for text in incident.fields().values():
        if len(text) > MAX_TEXT or not (text.isascii() and (text.isprintable())):
            raise ValueError("a word that is none")
        if text.startswith("-"):
            raise ValueError("a word that looks like an option")
    return incident


def _address(text: object) -> str:
    return str(text) if ip_network(str(text)) else ""


def _peer(connection: socket.socket) -> int:
    """The user at the other end."""
    size = struct.calcsize("=iII")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("=iII", raw)[1])


# --- how it is started


def fork(settings: Respond, path: Path, uid: int) -> int:
    """Leave a child behind that serves the user, and ends with its parent; its number. Before
    threads are made, while we are root."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    os.chown(path, uid, -1)
    listener.listen(64)
    lifeline, ours = os.pipe()  # PR_SET_PDEATHSIG would need the parent's right to signal root
    child = os.fork()
    if child:
        listener.close()
        os.close(lifeline)  # `ours` stays open as long as we live
        return child
    try:
        os.close(ours)
        server = Server(settings, {0, uid})
        signal.signal(signal.SIGTERM, lambda *_: server.end())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, args=(lifeline, server), daemon=True).start()
        server.serve(listener)
    finally:
        os._exit(1)


def _end_with_parent(lifeline: int, server: Server) -> NoReturn:
    os.read(lifeline, 1)
    server.end()


def check_owner(path: Path) -> None:
    """SentryError if somebody but root could have written what is done as root."""
    for place in (path, path.parent, path.parent / DIRECTORY, *drop_ins(path)):
        try:
            status = place.stat()
        except FileNotFoundError:
            continue  # of the configuration file and conf.d one is enough
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SentryError(
                f"{place}: owned by uid {status.st_uid} with mode"
                f" {stat.S_IMODE(status.st_mode):o}: commands run as root come from it, so it"
                " must be root's, and writable by root alone"
            )


def main() -> None:
    """For systemd: the listening socket is descriptor 3."""
    parser = argparse.ArgumentParser(prog="sentryfw-respond")
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("--user", type=int, required=True, help="uid that may ask, beside root")
    arguments = parser.parse_args()
    try:
        check_owner(arguments.config)
        settings = config.load(arguments.config)
    except (SentryError, OSError) as error:
        sys.stderr.write(f"sentryfw-respond: {error}\n")
        sys.exit(getattr(error, "exit_code", 1))
    listener = socket.socket(fileno=LISTEN_FD)
    Server(settings.respond, {0, arguments.user}).serve(listener)


if __name__ == "__main__":
    main()
