"""install_in_subprocess(): the table is made in another process, and its errors arrive here."""

import subprocess
import sys
from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.host.protected import index_of
from sentryfw.netfilter import install_process
from sentryfw.netfilter.install_process import install_in_subprocess
from sentryfw.netfilter.table import Table
from sentryfw.tools.drill.namespace import Namespace

PROTECTED: Final = index_of([ip_network("198.18.0.9/32")])


@pytest.mark.netns
def test_the_table_is_made_and_the_divert_returned(namespace: Namespace) -> None:
    divert = namespace.call(lambda: install_in_subprocess(Config(), PROTECTED))
    table = namespace.call(Table)
    assert table.is_installed()
    assert divert in ("queue", "xt-nfqueue")
    assert ip_network("198.18.0.9") in table.sets.never_blocked()
    table.close()


@pytest.mark.netns
def test_a_table_of_another_program_is_left_alone(namespace: Namespace) -> None:
    namespace.run("nft", "add table inet sentryfw")
    with pytest.raises(SentryError, match="cannot install the table: "):
        namespace.call(lambda: install_in_subprocess(Config(), index_of([])))
    assert namespace.run("nft", "list ruleset").stdout == "table inet sentryfw {\n}\n"


@pytest.mark.netns
def test_an_error_keeps_its_exit_code(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    monkeypatch.setattr(install_process, "COMMAND", [*without, *install_process.COMMAND])
    with pytest.raises(NoPrivilege) as raised:
        namespace.call(lambda: install_in_subprocess(Config(), index_of([])))
    assert raised.value.exit_code == 4


def test_a_child_that_fails_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(install_process, "COMMAND", ["sh", "-c", "echo no memory >&2; exit 3"])
    with pytest.raises(SentryError, match="cannot install the table: no memory"):
        install_in_subprocess(Config(), index_of([]))


def test_a_child_that_cannot_be_started_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_process, "COMMAND", ["/nonexistent/python"])
    with pytest.raises(SentryError, match=r"cannot install the table: .*No such file"):
        install_in_subprocess(Config(), index_of([]))


def test_the_child_imports_neither_the_configuration_nor_pydantic() -> None:
    """Importing them takes longer than the rest of its work, and the daemon waits for it."""
    code = "import sys, sentryfw.netfilter.install_process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    modules = done.stdout.split()
    assert "sentryfw.netfilter.load" in modules
    assert not [name for name in modules if name.startswith(("pydantic", "sentryfw.config"))]
