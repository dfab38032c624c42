"""Ed25519 signatures of entries (RFC 8032), by the cryptography package.

It is imported at the first call: a daemon without [fleet] members does not pay its 8 MiB.
"""

from functools import cache
from types import ModuleType
from typing import Any, Final

from sentryfw.distribution import distribution_packages
from sentryfw.errors import SentryError

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
MISSING: Final = (
    "[fleet] needs the Python package cryptography: install python3-cryptography, or"
    " sentryfw[fleet] with pip"
)


class Signer:
    """Signs with one private key."""

    def __init__(self, private: bytes) -> None:
        """`private`: KEY_BYTES bytes. Raise SentryError without the package, or for another
        length."""
        if len(private) != KEY_BYTES:
            raise SentryError(f"a private key has {KEY_BYTES} bytes, not {len(private)}")
        self._key: Any = _library().Ed25519PrivateKey.from_private_bytes(private)

    def sign(self, raw: bytes) -> bytes:
        """Return the signature of an entry's bytes."""
        return bytes(self._key.sign(raw))

    def public_key(self) -> bytes:
        """Return the public key, KEY_BYTES bytes, which other members pin."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return bytes(self._key.public_key().public_bytes(*raw))


def verify(public: bytes, raw: bytes, signature: bytes) -> bool:
    """Return whether the owner of a public key has signed these bytes."""
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    ed25519 = _library()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see above

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, raw)
    except (InvalidSignature, ValueError):  # the second for a key that is none
        return False
    return True


@cache
def load_cryptography() -> None:
    """Import what a signature needs. Raise SentryError without the package."""
    try:
        with distribution_packages():
            from cryptography.hazmat.backends import default_backend  # noqa: PLC0415 - see above
            from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: F401, PLC0415

            default_backend()  # older versions import their library of C here
    except ImportError as error:
        raise SentryError(f"{MISSING} ({error})") from None


def _library() -> ModuleType:
    load_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - see above

    return ed25519
