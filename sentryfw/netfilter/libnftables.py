"""libnftables through its official Python binding: rulesets, checks, listings.

Known traps, and what is done about them here: a context is not to be shared between threads
(make one in each); creating one without a free file descriptor makes the library exit() the
process (make it at start); text needs a newline before each closing brace.
"""

import ctypes
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported

DISTRIBUTION_COPIES: Final = (
    "/usr/lib/python3/dist-packages/nftables/__init__.py",
    *(
        f"{prefix}/python3.{minor}/site-packages/nftables/__init__.py"
        for prefix in ("/usr/lib", "/usr/lib64")
        for minor in range(9, 16)
    ),
)
"""Where Debian, Fedora, Arch and openSUSE put python3-nftables; a venv does not look there."""

LIBRARY: Final = "libnftables.so.1"
MISSING: Final = (
    "the Python binding of libnftables is missing: apt install python3-nftables"
    " (dnf install python3-nftables; or pip install 'sentryfw[nft]' and libnftables)"
)


class NftError(SentryError):
    """What nft said about a ruleset or a command it refused."""


class Libnftables:
    """One context. Text in, text out; NftError where nft refuses."""

    def __init__(self) -> None:
        module = load_binding()
        try:
            ctypes.CDLL(LIBRARY)  # half made, the binding's object ends in a traceback
            self._nft: Any = module.Nftables()
        except OSError as error:
            raise Unsupported(f"{LIBRARY} does not load ({error}): {MISSING}") from error
        self._nft.set_handle_output(False)

    def run(self, commands: str, *, json_output: bool = False) -> str:
        """Run nft commands as one transaction; what they printed."""
        self._nft.set_json_output(json_output)
        code, output, error = self._nft.cmd(commands)
        if code:
            raise _failure(error or output)
        return str(output)

    def check(self, commands: str) -> None:
        """nft -c: everything but the commit."""
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
    """The module `nftables`: importable, or the distribution's copy by its place."""
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
                sys.modules["nftables"] = module  # first: it imports from itself
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules["nftables"]
                    raise
                return module
    raise Unsupported(MISSING)


def _failure(message: str) -> SentryError:
    message = message.strip()
    if "Operation not permitted" in message:
        return NoPrivilege(NOT_ROOT)
    if "Could not resolve protocol name" in message:
        return Unsupported(
            "nft knows no protocol by name: /etc/protocols is missing; apt install netbase"
            " (dnf install setup, apk add alpine-baselayout-data)"
        )
    return NftError(f"nft refused:\n{message}")
