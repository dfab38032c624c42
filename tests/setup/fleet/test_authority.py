"""Certificates of a hub's authority, judged by openssl(1)."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.setup.fleet.authority import (
    CERTIFICATE_DAYS,
    Credential,
    ends_at,
    issue,
    make_authority,
)

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> Credential:
    return make_authority("test", NOW)


def verified(tmp_path: Path, authority: Credential, made: Credential, *words: str) -> bool:
    (tmp_path / "ca.pem").write_text(authority.certificate)
    (tmp_path / "one.pem").write_text(made.certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", *words, "one.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    return done.returncode == 0


def test_a_client_cannot_serve_and_a_server_is_that_of_its_hosts(
    tmp_path: Path, authority: Credential
) -> None:
    client = issue(authority, "fw1", NOW)
    assert verified(tmp_path, authority, client, "-purpose", "sslclient")
    assert not verified(tmp_path, authority, client, "-purpose", "sslserver")
    server = issue(authority, "hub", NOW, ["192.0.2.1", "2001:db8::1", "hub.example.org"])
    assert verified(tmp_path, authority, server, "-purpose", "sslserver")
    for flag, host in (
        ("-verify_ip", "192.0.2.1"), ("-verify_ip", "2001:db8::1"),
        ("-verify_hostname", "hub.example.org"),
    ):  # fmt: skip
        assert verified(tmp_path, authority, server, flag, host)
    assert not verified(tmp_path, authority, server, "-verify_ip", "192.0.2.2")


def test_another_authority_does_not_count(tmp_path: Path, authority: Credential) -> None:
    other = make_authority("test", NOW)
    assert not verified(tmp_path, authority, issue(other, "fw1", NOW))
    assert not verified(tmp_path, authority, issue(authority, "fw1", NOW - timedelta(days=2000)))


def test_the_end_of_a_certificate(authority: Credential) -> None:
    end = ends_at(issue(authority, "fw1", NOW).certificate)
    assert abs(end - (NOW + timedelta(days=CERTIFICATE_DAYS)).timestamp()) < 2


def test_another_text_than_a_certificate_is_refused(authority: Credential) -> None:
    with pytest.raises(SentryError, match="the certificate cannot be read"):
        ends_at("nothing")
    with pytest.raises(SentryError, match="the authority cannot be read"):
        issue(authority._replace(key="x"), "fw1", NOW)
