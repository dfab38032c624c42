"""A small certificate authority: that of one hub, for its members (RFC 5280), by the cryptography
package. Its key stays with the hub; a certificate is good for nothing but the connection, because
entries are signed by other keys."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import ModuleType
from typing import Any, Final, NamedTuple

from sentryfw.errors import SentryError
from sentryfw.fleet.signature import load_cryptography

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 1095
SLACK_S: Final = 3600
"""Seconds by which the clock of a member may be behind that of the hub."""

Foreign = Any
"""A module or an object of the library, which is imported at the first call."""


class Credential(NamedTuple):
    """A certificate and its private key, as PEM (RFC 7468)."""

    certificate: str
    key: str


def make_authority(name: str, now: datetime) -> Credential:
    """Return a new authority."""
    x509 = _x509()
    key = _new_key()
    subject = _name(x509, name)
    builder = _builder(x509, subject, subject, key, now, AUTHORITY_DAYS)
    builder = _identified(x509, builder, key, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(x509, signs=True), critical=True)
    return _credential(builder, key, key)


def issue(
    authority: Credential, name: str, now: datetime, hosts: Iterable[str] = (),
    days: int = CERTIFICATE_DAYS,
) -> Credential:  # fmt: skip
    """Return a certificate of an authority: for a server with `hosts`, else for a client. Raise
    SentryError for an authority that cannot be read."""
    x509 = _x509()
    try:
        certificate, signing_key = _loaded(x509, authority)
    except ValueError as error:
        raise SentryError(f"the authority cannot be read: {error}") from None
    key = _new_key()
    builder = _builder(x509, _name(x509, name), certificate.subject, key, now, days)
    builder = _identified(x509, builder, key, signing_key)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(x509, signs=False), critical=True)
    names = [_general_name(x509, host) for host in hosts]
    purposes = x509.oid.ExtendedKeyUsageOID
    purpose = purposes.SERVER_AUTH if names else purposes.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _credential(builder, key, signing_key)


def ends_at(certificate: str) -> float:
    """Return the end of a certificate, in seconds since the epoch. Raise SentryError if it cannot
    be read."""
    try:
        loaded = _x509().load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise SentryError(f"the certificate cannot be read: {error}") from None
    end: datetime = (
        loaded.not_valid_after_utc
        if hasattr(loaded, "not_valid_after_utc")  # since 42.0
        else loaded.not_valid_after.replace(tzinfo=UTC)
    )
    return end.timestamp()


def _builder(
    x509: Foreign, subject: Foreign, issuer: Foreign, key: Foreign, now: datetime, days: int
) -> Foreign:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(seconds=SLACK_S))
    return builder.not_valid_after(now + timedelta(days=days))


def _identified(x509: Foreign, builder: Foreign, key: Foreign, signing_key: Foreign) -> Foreign:
    """Add the identifiers of keys, which RFC 5280 (4.2.1.1) and Python from 3.13 on require."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    return builder.add_extension(own, critical=False).add_extension(signer, critical=False)


def _usage(x509: Foreign, *, signs: bool) -> Foreign:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _name(x509: Foreign, text: str) -> Foreign:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _general_name(x509: Foreign, host: str) -> Foreign:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _new_key() -> Foreign:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - see signature.py

    return ec.generate_private_key(ec.SECP256R1())


def _credential(builder: Foreign, key: Foreign, signing_key: Foreign) -> Credential:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above

    certificate = builder.sign(signing_key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credential(
        certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
    )


def _loaded(x509: Foreign, credential: Credential) -> tuple[Foreign, Foreign]:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    return (
        x509.load_pem_x509_certificate(credential.certificate.encode()),
        serialization.load_pem_private_key(credential.key.encode(), None),
    )


def _x509() -> ModuleType:
    load_cryptography()
    from cryptography import x509  # noqa: PLC0415 - see signature.py
    from cryptography.x509 import oid  # noqa: F401, PLC0415 - x509.oid

    return x509
