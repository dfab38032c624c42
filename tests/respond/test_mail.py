"""Mail: its text, its frequency, its transport, and a server that is down."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.respond import Mail
from sentryfw.errors import ReactionFailed
from sentryfw.origin.model import Origin
from sentryfw.respond import mail as module
from sentryfw.respond.mail import Mailer, compose, read_credentials
from sentryfw.respond.origin.finder import Find
from sentryfw.tools.drill.namespace import Namespace
from support.reactions import (
    INCIDENT,
    REFUSED,
    SIX,
    Certificate,
    Results,
    SilentServer,
    SmtpServer,
)
from support.waiting import wait_for

MakeMailer = Callable[..., Mailer]
PASSWORD = "correct horse battery"  # noqa: S105 - of the test


@pytest.fixture
def make_mailer(
    namespace: Namespace, results: Results, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeMailer]:
    """Return a function that starts mailers, whose thread is in the namespace."""
    monkeypatch.setattr(module, "MIN_RETRY_S", 0.05)
    made: list[Mailer] = []

    def make(find: Find | None = None, **settings: Any) -> Mailer:
        values = {"to": ["root@example.org"], "host": "127.0.0.1", "timeout": 2, "throttle": 0.01}
        made.append(Mailer(Mail.model_validate({**values, **settings}), results, find))
        namespace.call(made[-1].start)
        return made[-1]

    yield make
    for mailer in made:
        mailer.stop(time.monotonic() + 0.2)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(f'user = "sentry"\npassword = "{PASSWORD}"\n')
    path.chmod(0o600)
    return path


# --- the text


def test_one_block_is_named_in_the_subject() -> None:
    message = compose([INCIDENT], 0, Mail(to=("a@example.org", "b@example.org")), "box")
    assert message["Subject"] == "SentryFW box: blocked 198.18.0.2"
    assert message["To"] == "a@example.org, b@example.org"
    assert message["From"] == "sentryfw@box"
    assert message["Auto-Submitted"] == "auto-generated"
    assert INCIDENT.sentence() in message.get_content().replace("\n", " ")


def test_many_incidents_are_counted_and_listed() -> None:
    message = compose([INCIDENT, SIX, REFUSED], 7, Mail(to=("a@example.org",)), "box")
    assert message["Subject"] == "SentryFW box: 2 blocked, 1 not blocked"
    text = message.get_content()
    for incident in (INCIDENT, SIX, REFUSED):
        assert incident.sentence() in text
    assert "... and 7 more" in text


def test_the_last_lines_are_commands_that_can_be_copied() -> None:
    alone = compose([INCIDENT, INCIDENT], 0, Mail(to=("a@example.org",)), "box").get_content()
    assert alone.endswith(
        "\n\nWhy:  sentryfw explain 198.18.0.2\nUndo: sentryfw unblock 198.18.0.2\n"
    )
    several = compose([INCIDENT, SIX], 0, Mail(to=("a@example.org",)), "box").get_content()
    assert several.endswith("\nand the other addresses, 1, in the same way\n")


def test_an_incident_has_the_origin_of_its_source() -> None:
    origins = {INCIDENT.address: Origin("DE", 64500, "Example Net", ("Research scanner",))}
    config = Mail(to=("a@example.org",))
    text = compose([INCIDENT, SIX], 0, config, "box", origins).get_content()
    assert f"{INCIDENT.sentence()} [DE, AS64500 Example Net, Research scanner]\n" in text
    assert f"{SIX.sentence()}\n" in text


# --- transport


def test_origins_are_asked_for_when_a_mail_is_sent(
    namespace: Namespace, results: Results, make_mailer: MakeMailer
) -> None:
    asked: list[list[str]] = []

    def find(addresses: list[str]) -> dict[str, Origin]:
        asked.append(addresses)
        return {INCIDENT.address: Origin("DE")}

    with SmtpServer(namespace) as server:
        mailer = make_mailer(port=server.port, mode="digest", every=0.2, find=find)
        for incident in (INCIDENT, INCIDENT, SIX):
            mailer.put(incident)
        wait_for(lambda: len(server.mails) == 1, "the mail")
    assert asked == [[INCIDENT.address, SIX.address]]
    assert server.mails[0].count("[DE]") == 2


def test_mail_to_this_host_may_be_unencrypted(
    namespace: Namespace, make_mailer: MakeMailer, results: Results
) -> None:
    with SmtpServer(namespace) as server:
        make_mailer(port=server.port).put(INCIDENT)
        wait_for(lambda: results, "sent")
    assert "Subject: SentryFW" in server.mails[0]
    assert (results[0].reaction, results[0].ok) == ("mail", True)
    assert results[0].detail.endswith("mailed to root@example.org")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_encrypted_after_a_login(
    namespace: Namespace,
    make_mailer: MakeMailer,
    results: Results,
    certificate: Certificate,
    credentials: Path,
    security: str,
) -> None:
    login = ("sentry", PASSWORD)
    with SmtpServer(namespace, certificate, implicit=security == "tls", login=login) as server:
        make_mailer(
            port=server.port, security=security, ca=str(certificate.certificate),
            credentials=str(credentials),
        ).put(INCIDENT)  # fmt: skip
        wait_for(lambda: results, "sent")
    assert results[0].ok, results
    assert server.encrypted == [True]
    assert server.logins == [login]


def test_a_server_that_cannot_be_trusted_gets_no_password(
    namespace: Namespace,
    make_mailer: MakeMailer,
    results: Results,
    certificate: Certificate,
    credentials: Path,
) -> None:
    with SmtpServer(namespace, certificate) as server:
        make_mailer(port=server.port, security="starttls", credentials=str(credentials)).put(
            INCIDENT
        )
        failure = wait_for(results.failures, "said")[0]
    assert "certificate verify failed" in failure.detail
    assert (server.mails, server.logins) == ([], [])


def test_a_server_without_starttls_gets_no_mail(
    namespace: Namespace, make_mailer: MakeMailer, results: Results, credentials: Path
) -> None:
    with SmtpServer(namespace) as server:
        make_mailer(port=server.port, security="starttls", credentials=str(credentials)).put(
            INCIDENT
        )
        failure = wait_for(results.failures, "said")[0]
    assert "STARTTLS" in failure.detail
    assert (server.mails, server.logins) == ([], [])


def test_a_refused_login_is_reported_without_the_password(
    namespace: Namespace,
    make_mailer: MakeMailer,
    results: Results,
    certificate: Certificate,
    credentials: Path,
) -> None:
    """The server repeats the login, as some do."""
    with SmtpServer(namespace, certificate, login=("sentry", "another")) as server:
        make_mailer(
            port=server.port, security="starttls", ca=str(certificate.certificate),
            credentials=str(credentials),
        ).put(INCIDENT)  # fmt: skip
        failure = wait_for(results.failures, "said")[0]
        assert server.logins[0] == ("sentry", PASSWORD)
    assert "login refused, 535" in failure.detail
    assert "c2VudHJ5" not in failure.detail  # base64
    assert PASSWORD not in failure.detail


# --- frequency


def test_blocks_within_the_throttle_share_a_mail(
    namespace: Namespace, make_mailer: MakeMailer
) -> None:
    with SmtpServer(namespace) as server:
        mailer = make_mailer(port=server.port, throttle=0.5)
        mailer.put(INCIDENT)
        wait_for(lambda: len(server.mails) == 1, "the first, at once")
        begin = time.monotonic()
        for number in range(20):
            mailer.put(INCIDENT._replace(address=f"198.18.1.{number}"))
        wait_for(lambda: len(server.mails) == 2, "the second")
        assert time.monotonic() - begin > 0.3
        wait_for(lambda: mailer.waiting == 0, "nothing left")
    assert "20 blocked, 0 not blocked" in server.mails[1]


def test_a_refusal_is_mailed_in_a_digest_only(
    namespace: Namespace, make_mailer: MakeMailer
) -> None:
    with SmtpServer(namespace) as server:
        at_once = make_mailer(port=server.port)
        at_once.put(REFUSED)
        assert at_once.waiting == 0
        begin = time.monotonic()
        digest = make_mailer(port=server.port, mode="digest", every=0.4)
        digest.put(REFUSED)
        digest.put(INCIDENT)
        wait_for(lambda: len(server.mails) == 1, "the digest")
        assert time.monotonic() - begin > 0.35
    assert "1 blocked, 1 not blocked" in server.mails[0]


def test_incidents_beyond_the_limit_are_counted(
    namespace: Namespace, make_mailer: MakeMailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_INCIDENTS", 10)
    with SmtpServer(namespace) as server:
        mailer = make_mailer(port=server.port, mode="digest", every=0.3)
        for _ in range(35):
            mailer.put(INCIDENT)
        assert mailer.waiting == 10
        wait_for(lambda: len(server.mails) == 1, "the digest")
    assert "... and 25 more" in server.mails[0]


# --- a server that is down


def test_a_mail_that_failed_is_sent_later(
    namespace: Namespace, make_mailer: MakeMailer, results: Results
) -> None:
    with SmtpServer(namespace) as server:
        server.go_away()
        mailer = make_mailer(port=server.port)
        mailer.put(INCIDENT)
        failure = wait_for(results.failures, "said")[0]
        assert (failure.address, failure.ok) == ("198.18.0.2", False)
        assert "Connection refused" in failure.detail
        mailer.put(SIX)
        server.come_back()
        wait_for(lambda: server.mails, "mailed in the end")
        wait_for(lambda: mailer.waiting == 0, "nothing left")
    text = "".join(server.mails)
    assert "198.18.0.2" in text
    assert "2001:2:0:1::/64" in text


def test_the_wait_for_a_silent_server_is_bounded(
    namespace: Namespace, make_mailer: MakeMailer, results: Results
) -> None:
    with SilentServer(namespace) as server:
        mailer = make_mailer(port=server.port, timeout=0.3)
        begin = time.monotonic()
        for _ in range(1000):
            mailer.put(INCIDENT)
        assert time.monotonic() - begin < 0.3
        failure = wait_for(results.failures, "given up")[0]
    assert "timed out" in failure.detail
    assert mailer.waiting <= module.MAX_INCIDENTS


def test_stopping_reports_incidents_that_were_not_mailed(
    namespace: Namespace, make_mailer: MakeMailer, results: Results
) -> None:
    mailer = make_mailer(port=9, mode="digest", every=3600)
    mailer.put(INCIDENT)
    mailer.stop(time.monotonic() + 1)
    assert [result.detail for result in results] == ["1 not mailed: the daemon ended"]


# --- the credentials file


def test_credentials_are_read_from_a_private_file(credentials: Path) -> None:
    assert read_credentials(credentials) == ("sentry", PASSWORD)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_credentials_that_others_can_access_are_refused(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    with pytest.raises(ReactionFailed, match="it must have mode 0600"):
        read_credentials(credentials)


@pytest.mark.parametrize(
    "text",
    ["", 'user = "x"', f"password = {PASSWORD}", f'password = "{PASSWORD}"', "\xff"],
    ids=["empty", "no-password", "no-toml", "no-user", "no-utf-8"],
)
def test_malformed_credentials_are_not_quoted(credentials: Path, text: str) -> None:
    credentials.write_text(text, encoding="latin-1")
    with pytest.raises(ReactionFailed) as raised:
        read_credentials(credentials)
    assert PASSWORD not in str(raised.value)


def test_credentials_behind_a_symlink_are_refused(credentials: Path) -> None:
    link = credentials.with_name("link")
    link.symlink_to(credentials)
    with pytest.raises(ReactionFailed, match="symbolic links"):
        read_credentials(link)
