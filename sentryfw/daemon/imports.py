"""Import asyncio and the configuration without libraries that they can do without, to save memory.

asyncio imports OpenSSL where it can (ssl, and hashlib's _hashlib): the daemon's loop serves UNIX
sockets and loopback, and Python has hashes of its own unless a distribution removed them (RHEL).
Without OpenSSL the idle daemon takes 7 MiB less. A module that imports ssl later, as syslog over
TLS does, gets it as usual. The configuration is checked by a child, which needs pydantic for that;
the daemon holds its values alone, without 10 MiB.

See docs/decisions.md: nothing-at-import, plain-sections.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from sentryfw.config import plain


def import_libraries() -> None:
    """Import asyncio and the sections of the configuration, if no module has done so yet."""
    plain.is_used = True
    with _hidden("ssl", *(["_hashlib"] if _has_own_hashes() else [])):
        importlib.import_module("asyncio")
        importlib.import_module("hashlib")  # the fleet's signatures
        importlib.import_module("sentryfw.config.model")


def _has_own_hashes() -> bool:
    """Return whether hashlib works without OpenSSL (configure --with-builtin-hashlib-hashes)."""
    required = ("_md5", "_sha1", "_sha3", "_blake2")
    sha512 = ("_sha512", "_sha2")  # until Python 3.11, from 3.12
    return all(map(_is_there, required)) and any(map(_is_there, sha512))


def _is_there(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let imports of these modules fail, except of modules that are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def plugin_search_without_metadata() -> Iterator[None]:
    """Keep pydantic from loading importlib.metadata, and email with it, which saves 1.1 MiB.

    pydantic imports it with its first model for a search for plugins that is switched off. Where
    an operator switched the search on, nothing is hidden from it.
    """
    name = "importlib.metadata"
    if name in sys.modules or os.environ.get("PYDANTIC_DISABLE_PLUGINS") != "__all__":
        yield
        return
    stand_in = ModuleType(name)
    stand_in.entry_points = list  # type: ignore[attr-defined] # no plugins
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]
