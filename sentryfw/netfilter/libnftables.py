"""libnftables through its official Python binding: rulesets, checks, listings.

Known traps: threads must not share a context (create one in each); the library calls exit() if
it creates a context without a free file descriptor (create it at start); text needs a newline
before each closing brace.
"""

import ctypes
import importlib
import importlib.util
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported
from sentryfw.netlink.set_elements import key_after, networks_of

if TYPE_CHECKING:
    from sentryfw.config.types import IPNetwork

DISTRIBUTION_COPIES: Final = (
    "/usr/lib/python3/dist-packages/nftables/__init__.py",
    *(
        f"{prefix}/python3.{minor}/site-packages/nftables/__init__.py"
        for prefix in ("/usr/lib", "/usr/lib64")
        for minor in range(9, 16)
    ),
)
"""Files of python3-nftables in Debian, Fedora, Arch and openSUSE, which a venv does not search."""

LIBRARY: Final = "libnftables.so.1"
MISSING: Final = (
    "the Python binding of libnftables is missing: apt install python3-nftables"
    " (dnf install python3-nftables; or pip install 'sentryfw[nft]' and libnftables)"
)
NO_LIBRARY: Final = "apt install libnftables1 (dnf install nftables, apk add nftables)"


class NftError(SentryError):
    """The message of nft about a ruleset or command that it refused."""


class Libnftables:
    """A libnftables context: text in, text out. Raises NftError if nft refuses a command."""

    def __init__(self) -> None:
        module = load_binding()
        try:
            ctypes.CDLL(LIBRARY)  # before the binding does: a half-made object prints a traceback
            self._nft: Any = module.Nftables()
        except OSError as error:
            raise Unsupported(f"{LIBRARY} does not load ({error}): {NO_LIBRARY}") from error
        self._nft.set_handle_output(False)

    def run(self, commands: str, *, json_output: bool = False) -> str:
        """Run nft commands as one transaction; return their output."""
        self._nft.set_json_output(json_output)
        code, output, error = self._nft.cmd(commands)
        if code:
            raise _failure(error or output)
        return str(output)

    def check(self, commands: str) -> None:
        """Check nft commands as nft -c does, without a commit. Raise NftError for a refusal."""
        self._dry_run(on=True)
        try:
            self.run(commands)
        finally:
            self._dry_run(on=False)

    def _dry_run(self, *, on: bool) -> None:
        # The 1.0.2 binding on PyPI lacks set_dry_run(); the library has it since 0.9.0.
        library = ctypes.CDLL(LIBRARY)
        library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        library.nft_ctx_set_dry_run(self._nft._Nftables__ctx, on)  # noqa: SLF001


def load_binding() -> ModuleType:
    """Return the module `nftables`, importable or from the distribution's directory."""
    try:
        return importlib.import_module("nftables")
    except ModuleNotFoundError:
        pass
    for place in DISTRIBUTION_COPIES:
        if Path(place).is_file():
            spec = importlib.util.spec_from_file_location(
                "nftables", place, submodule_search_locations=[str(Path(place).parent)]
            )
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                sys.modules["nftables"] = module  # before it is executed: it imports from itself
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules["nftables"]
                    raise
                return module
    raise Unsupported(MISSING)


def listed_networks(value: Any) -> "list[IPNetwork]":  # noqa: ANN401 - libnftables' JSON
    """Return the networks of an address, a prefix or a range in libnftables' JSON.

    An operator may have added a range that is not one network.
    """
    if isinstance(value, dict) and "range" in value:
        first, last = (ip_address(end).packed for end in value["range"])
        return list(networks_of(first, key_after(int.from_bytes(last), len(last))))
    if isinstance(value, dict):
        return [ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")]
    return [ip_network(value)]


def _failure(message: str) -> SentryError:
    message = message.strip()
    if "Operation not permitted" in message:
        return NoPrivilege(NOT_ROOT)
    if "Could not resolve protocol name" in message:
        return Unsupported(
            "nft cannot resolve protocol names: /etc/protocols is missing; apt install netbase"
            " (dnf install setup, apk add alpine-baselayout-data)"
        )
    return NftError(f"nft refused:\n{message}")
