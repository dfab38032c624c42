"""The key that signs the entries of this firewall: made where it is missing."""

import os

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.fleet.signature import KEY_BYTES, Signer
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_private, private_directory, read_as_owner


def public_key(config: Config) -> str:
    """Return the public key as text; make the private key where it is missing."""
    path = config.paths.fleet_key
    with acting_as_owner(path.parent):
        private_directory(path.parent)
        if not os.path.lexists(path):
            descriptor = open_private(path, os.O_WRONLY | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(os.urandom(KEY_BYTES).hex())
    text = read_as_owner(path, 2 * KEY_BYTES).decode()
    try:
        return Signer(bytes.fromhex(text)).public_key().hex()
    except ValueError:
        raise SentryError(f"{path} holds no key: move it away, and run this again") from None
