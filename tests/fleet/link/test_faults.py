"""Faults of the hub: one sentence each, with what to do."""

import ssl

import pytest

from sentryfw.config.fleet import HubAddress
from sentryfw.fleet.link.faults import MAX_CHARACTERS, hub_fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("certificate verify failed: certificate has expired (_ssl.c:992)", ("the hub's certificate"
         " has expired")),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '::1'",
         "another host"),
        ("certificate verify failed: self-signed certificate in certificate chain",
         "not of the authority"),
        ("sslv3 alert certificate expired", "our certificate, which has expired"),
        ("tlsv1 alert unknown ca", "not of the hub's authority"),
        ("tlsv13 alert certificate required", r"\[fleet.hub\] names none"),
        ("Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2393).",
         "refuses our certificate"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "does not know this"),
        ("NOPERM this user has no permissions to access one of the keys", "its ACL"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "raise maxmemory"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "is that full"),
        ("READONLY You can't write against a read only replica.", "its Sentinels"),
        ("LOADING Redis is loading the dataset in memory", "reads its entries"),
        ("Error 111 connecting to 192.0.2.1:6380. Connection refused.", "does the hub run"),
    ],
)  # fmt: skip
def test_the_sentence_names_the_fault(text: str, expected: str) -> None:
    place = HubAddress("192.0.2.1", 6380, is_encrypted=True)
    fault = str(hub_fault(ConnectionError(text), place))
    assert fault.startswith("192.0.2.1:6380: ")
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(fault)


def test_the_fault_behind_the_librarys_is_found() -> None:
    cause = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    error = OSError("Error 1 connecting")
    error.__cause__ = cause
    assert "not of the hub's authority" in str(hub_fault(error))


def test_an_unknown_fault_is_short_and_printable() -> None:
    fault = str(hub_fault(ValueError("\x1b[2J" + "x" * 5000)))
    assert len(fault) <= MAX_CHARACTERS
    assert fault.isprintable()


def test_an_answer_that_was_not_asked_for_is_not_shown() -> None:
    assert str(hub_fault(b"\x00secret")) == "the hub gave an answer that was not asked for"
