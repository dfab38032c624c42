"""Signatures, and a known answer of RFC 8032."""

import sys

import pytest

from sentryfw.errors import SentryError
from sentryfw.fleet.signature import Signer, load_cryptography, verify

PRIVATE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
EMPTY = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
"""RFC 8032, section 7.1, test 1: the empty message."""


def test_the_known_answer_of_the_standard() -> None:
    signer = Signer(PRIVATE)
    assert signer.public_key() == PUBLIC
    assert signer.sign(b"") == EMPTY
    assert verify(PUBLIC, b"", EMPTY)


def test_another_message_key_or_signature_is_refused() -> None:
    signed = Signer(PRIVATE).sign(b"entry")
    assert verify(PUBLIC, b"entry", signed)
    assert not verify(PUBLIC, b"entry2", signed)
    assert not verify(Signer(bytes(32)).public_key(), b"entry", signed)
    assert not verify(PUBLIC, b"entry", signed[:-1])
    assert not verify(PUBLIC[:-1], b"entry", signed)
    assert not verify(PUBLIC, b"entry", bytes(64))


def test_a_key_of_another_length_is_reported() -> None:
    with pytest.raises(SentryError, match="32 bytes, not 31"):
        Signer(bytes(31))


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cryptography.hazmat.primitives.asymmetric"
    monkeypatch.setitem(sys.modules, name, None)
    load_cryptography.cache_clear()
    with pytest.raises(SentryError, match="python3-cryptography"):
        Signer(PRIVATE)
