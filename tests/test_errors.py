"""The tree of exceptions: complete, each with its exit code."""

import importlib
import pickle
import pkgutil
import re

import pytest

import sentryfw
from sentryfw import errors
from sentryfw.errors import ConfigError, KernelError, LedgerFault, SentryError


def _documented() -> dict[str, int]:
    lines = re.findall(r"^    [ +-]*(\w+) +(\d+)  ", str(errors.__doc__), re.MULTILINE)
    return {name: int(code) for name, code in lines}


def _all_errors(base: type[SentryError] = SentryError) -> dict[str, int]:
    found = {base.__name__: base.exit_code}
    for kind in base.__subclasses__():
        found |= _all_errors(kind)
    return found


def test_the_docstring_lists_every_error_with_its_exit_code() -> None:
    for package in (
        "netfilter",
        "record",
        "respond",
        "tools.replay",
        "tools.drill",
        "decoy",
        "control",
        "host",
    ):
        path = importlib.import_module(f"sentryfw.{package}").__path__
        for module in pkgutil.iter_modules(path):
            importlib.import_module(f"sentryfw.{package}.{module.name}")
    assert sentryfw
    assert _documented() == _all_errors()


@pytest.mark.parametrize(
    "error",
    [ConfigError("a.toml", ["b: wrong"]), KernelError(1, "list table"), LedgerFault("damaged")],
)
def test_errors_survive_pickling(error: SentryError) -> None:
    """Errors of a forked process come through a pipe."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copy), str(copy)) == (type(error), str(error))


def test_all_faults_of_a_configuration_have_their_file() -> None:
    error = ConfigError("a.toml", ["x", "y"], ["a.toml", "b.toml"])
    assert str(error) == "a.toml: x\nb.toml: y"
    assert error.exit_code == 78


def test_an_error_of_the_kernel_names_its_errno() -> None:
    assert str(KernelError(2, "get element")) == "get element: No such file or directory (ENOENT)"
