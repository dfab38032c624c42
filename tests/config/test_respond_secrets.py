"""A password goes to the server it is for, and nowhere else."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.box import BIN
from support.lab import ATTACKER, UNLISTED, Lab, Sentry
from support.reactions import SmtpServer
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

PASSWORD: Final = "correct horse battery"  # noqa: S105 - of a test
MAIL: Final = """
[respond.mail]
to = ["root@example.org"]
host = "127.0.0.1"
port = {port}
credentials = "{path}"
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def _told(sentry: Sentry) -> Iterator[tuple[str, bytes]]:
    """Everything that the daemon writes, and that is printed of it."""
    paths = sentry.settings.paths
    for path in (sentry.home / "stderr", *paths.state.rglob("*"), *paths.log.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
    for words in (("status", "--json"), ("list", "--json"), ("explain", ATTACKER[4], "--json")):
        done = sentry.lab.victim.run(BIN / "sentryfw", "-c", sentry.config, *words)
        assert json.loads(done.stdout)
        yield " ".join(words), (done.stdout + done.stderr).encode()
    yield "environment", Path(f"/proc/{sentry.process.pid}/environ").read_bytes()
    yield "command line", Path(f"/proc/{sentry.process.pid}/cmdline").read_bytes()


def test_the_password_of_the_mail_server_goes_nowhere_else(lab: Lab) -> None:
    """Also when the server refuses it."""
    with SmtpServer(lab.victim, login=("sentry", "another one")) as server:
        sentry = Sentry(lab)
        credentials = sentry.home / "mail.toml"
        credentials.touch(mode=0o600)
        credentials.write_text(f'user = "sentry"\npassword = "{PASSWORD}"\n')
        with sentry.config.open("a") as file:
            file.write(MAIL.format(port=server.port, path=credentials))
        try:
            sentry.start()
            lab.probe(ATTACKER[4], *UNLISTED)
            wait_for(lambda: server.logins, "it logs in")
            assert server.logins[0] == ("sentry", PASSWORD)
            wait_for(lambda: "login refused" in sentry.log(), "the failure is said")
            secrets = (PASSWORD.encode(), base64.b64encode(f"\0sentry\0{PASSWORD}".encode()))
            found = [name for name, data in _told(sentry) for s in secrets if s in data]
            assert found == []
        finally:
            sentry.close()
