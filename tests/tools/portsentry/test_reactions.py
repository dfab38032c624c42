"""PortSentry's KILL_* and file options become [respond]."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import File, PortSentryFiles
from sentryfw.tools.portsentry.parse import parse_settings
from support.portsentry_etc import config_of, import_etc, reasons

MakeEtc = Callable[..., Path]


def test_reactions(make_etc: MakeEtc) -> None:
    made = config_of(
        import_etc(
            make_etc("""\
KILL_ROUTE="/sbin/route add -host $TARGET$ reject"
KILL_HOSTS_DENY="ALL: $TARGET$ : DENY"
KILL_RUN_CMD="/usr/bin/note '$TARGET$ from' $PORT$ $MODE$"
KILL_RUN_CMD_FIRST="1"
RESOLVE_HOST="1"
""")
        )
    )
    respond = made.respond
    assert respond.route.enabled
    assert respond.hosts_deny.enabled
    assert respond.hosts_deny.line == "ALL: {address} : DENY"
    assert respond.command.argv == ("/usr/bin/note", "{ip} from", "{port}", "{mode}")
    assert respond.command.when == "before"
    assert respond.dns.enabled
    assert respond.history.format == "portsentry1"
    assert str(respond.history.path) == "/var/lib/portsentry/portsentry.history"


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ('KILL_ROUTE="/sbin/iptables -I INPUT -s $TARGET$ -j DROP"\n', "iptables blocked there"),
        ('KILL_RUN_CMD="/bin/a $TARGET$ | /bin/b"\n', "needs a shell, and no shell is run"),
        ('KILL_RUN_CMD="a $TARGET$"\n', "is not an absolute path"),
        ('KILL_ROUTE="/bin/a"\nKILL_RUN_CMD="/bin/b"\n', "let a script call both"),
        ('KILL_HOSTS_DENY="ALL: ALL"\n', "KILL_HOSTS_DENY: not one line"),
        ("", "BLOCKED_FILE: the kernel's sets"),
        ("", "blocks without end"),
    ],
)
def test_an_option_that_is_not_carried_over_has_a_reason(
    make_etc: MakeEtc, conf: str, said: str
) -> None:
    imported = import_etc(make_etc(conf))
    assert said in reasons(imported)
    config_of(imported)


def test_a_program_in_kill_route_is_run_as_the_command(make_etc: MakeEtc) -> None:
    made = config_of(import_etc(make_etc('KILL_ROUTE="/usr/local/bin/cut-off $TARGET$"\n')))
    assert made.respond.command.argv == ("/usr/local/bin/cut-off", "{ip}")


@pytest.mark.parametrize(
    ("path", "said"),
    [("/var/lib/portsentry/portsentry.history", True), ("/var/log/sentryfw/history", False)],
)
def test_a_history_that_the_service_cannot_write_has_a_remark(
    make_etc: MakeEtc,
    path: str,
    said: bool,  # noqa: FBT001 - of the table
) -> None:
    etc = make_etc(base=f'HISTORY_FILE="{path}"\n')
    origins = {line.key: line.origin for line in import_etc(etc).lines}
    assert ("the service can write below /var/log/sentryfw only" in origins["path"]) is said


@pytest.mark.parametrize("option", ["KILL_ROUTE", "KILL_RUN_CMD"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_command_is_none(option: str, value: str) -> None:
    """BLOCK_UDP 2 wants a command; with an empty one the configuration is good all the same."""
    data = f'BLOCK_UDP="2"\n{option}="{value}"\n'.encode()
    sources = PortSentryFiles(
        File(Path("/portsentry.conf"), data), parse_settings(data), None, [], [], []
    )  # fmt: skip
    made = config_of(convert(sources, None, None))
    assert made.respond.command.argv == ()
    assert made.block.udp != "command"
