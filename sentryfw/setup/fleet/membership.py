"""The files by which this firewall is a member: conf.d/fleet.toml, and the access to the hub beside
it. Both are root's; the link's user reads the second."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.files import DIRECTORY
from sentryfw.config.fleet import Fleet, FleetMember
from sentryfw.errors import ConfigError, SentryError, UsageError
from sentryfw.host import account
from sentryfw.setup.fleet.hub_files import write_private
from sentryfw.setup.fleet.invitation import Access, Invitation

HEADER: Final = "# Written by `sentryfw fleet join`, and removed by `sentryfw fleet leave`.\n"
FILE: Final = "fleet.toml"
FILES: Final = {"ca": "ca.pem", "certificate": "certificate.pem", "key": "key.pem"}
PASSWORD: Final = "password"  # noqa: S105 - the name of a file


class Membership:
    """The files of one configuration."""

    def __init__(self, path: Path | None) -> None:
        """`path`: the configuration; None: the default one."""
        self._path = path
        directory = (path or config.DEFAULT_PATH).absolute().parent
        self.file = directory / DIRECTORY / FILE
        self.access = directory / "fleet"
        """Directory of certificate, key and password."""

    def join(self, invitation: Invitation, trust: str | None) -> Fleet:
        """Write what an invitation has; members that are known keep what the operator chose for
        them. Return [fleet] as it is then. Raise SentryError, with nothing changed."""
        before = config.load(self._path).fleet
        access = invitation.access
        name = before.name if access is None else access.name
        if not name:
            raise UsageError("this invitation adds members to a firewall that is one already")
        if before.name and name != before.name:
            raise UsageError(
                f"this firewall is {before.name}, and the invitation is for {name}: `sentryfw fleet"
                " leave` first, or run it there"
            )
        if access is not None:
            self._write_access(access)
        self._replace(self._text(name, before, invitation, trust))
        return config.load(self._path).fleet

    def leave(self) -> list[Path]:
        """Remove both; return what was removed. Raise SentryError."""
        removed = []
        try:
            if self.file.exists():
                if not self.file.read_text(errors="replace").startswith(HEADER):
                    raise SentryError(f"{self.file} is not `sentryfw fleet join`'s: remove it")
                self.file.unlink()
                removed.append(self.file)
            if self.access.is_dir() and not self.access.is_symlink():
                shutil.rmtree(self.access)
                removed.append(self.access)
        except OSError as error:
            raise SentryError(f"{error.filename}: {error.strerror}") from None
        return removed

    def _write_access(self, access: Access) -> None:
        link = account.find(account.LINK_USER)
        group = -1 if link is None else link.gid
        try:
            self.access.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.chown(self.access, -1, group)
        except OSError as error:
            raise SentryError(f"{self.access}: {error.strerror}") from None
        texts = {
            FILES["ca"]: access.authority, FILES["certificate"]: access.credential.certificate,
            FILES["key"]: access.credential.key, PASSWORD: access.password + "\n",
        }  # fmt: skip
        for name, text in texts.items():
            write_private(self.access / name, text, 0o640, group)

    def _replace(self, text: str) -> None:
        """Write the configuration; restore the old one if the new has a fault."""
        old = self.file.read_text() if self.file.exists() else None
        if old is not None and not old.startswith(HEADER):
            raise SentryError(
                f"{self.file} is not `sentryfw fleet join`'s: move what it has to another file"
            )
        try:
            self.file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise SentryError(f"{self.file.parent}: {error.strerror}") from None
        write_private(self.file, text, 0o644, -1)
        try:
            config.load(self._path)
        except ConfigError:
            if old is None:
                self.file.unlink()
            else:
                write_private(self.file, old, 0o644, -1)
            raise

    def _text(self, name: str, before: Fleet, invitation: Invitation, trust: str | None) -> str:
        lines = [HEADER, "[fleet]", f"name = {_quoted(name)}", ""]
        members = _merged(before.members, invitation.members, trust)
        for other, member in sorted(members.items()):
            lines.append(f"[fleet.members.{other}]")
            for key, value in member.model_dump(mode="json", exclude_unset=True).items():
                lines.append(f"{key} = {_quoted(value)}")
            lines.append("")
        url = before.hub.url if invitation.access is None else invitation.access.url
        if url:
            lines += ["[fleet.hub]", f"url = {_quoted(url)}"]
            lines += [f"{key} = {_quoted(str(self.access / file))}" for key, file in FILES.items()]
            lines.append(f"password_file = {_quoted(str(self.access / PASSWORD))}")
        return "\n".join(lines) + "\n"


def _merged(
    before: Mapping[str, FleetMember], keys: Mapping[str, str], trust: str | None
) -> dict[str, FleetMember]:
    members = dict(before)
    for name, key in keys.items():
        given = before[name].model_dump(mode="json", exclude_unset=True) if name in before else {}
        chosen = {"trust": trust} if trust else {}
        members[name] = FleetMember.model_validate({**given, **chosen, "key": key})
    return members


def _quoted(value: object) -> str:
    """Return a value as TOML; its basic strings are those of JSON (toml.io, v1.0.0)."""
    return json.dumps(value)
