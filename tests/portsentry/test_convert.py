"""PortSentry's options become SentryFW's keys, with PortSentry's semantics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw import config
from sentryfw.config import Config
from sentryfw.portsentry.convert import Imported, convert
from sentryfw.portsentry.files import File, Sources, collect
from sentryfw.portsentry.parse import OPTIONS, parse_settings
from sentryfw.portsentry.render import render

MakeEtc = Callable[..., Path]


def _import(etc: Path, tcp: str | None = None, udp: str | None = None) -> Imported:
    return convert(collect(etc), tcp, udp)


def _config(imported: Imported) -> Config:
    """Through the text, as an operator would have it."""
    return config.parse(render(imported).encode(), "imported")


def _said(imported: Imported) -> str:
    return "\n".join(remark.said for remark in imported.unmapped)


# --- modes


@pytest.mark.parametrize(
    ("tcp", "udp", "expected"),
    [
        ("tcp", "udp", {"mode": "traps", "decoy": ((1, 1), (11, 11), (15, 15)),
                        "decoy_udp": ((7, 7), (9, 9))}),
        ("stcp", "sudp", {"mode": "traps", "trap_tcp": ((1, 1), (11, 11), (15, 15)),
                          "trap_udp": ((7, 7), (9, 9))}),
        ("atcp", "audp", {"mode": "unlisted", "upper_tcp": 1024, "upper_udp": 1024,
                          "listed_tcp": ((113, 113), (139, 139)),
                          "listed_udp": ((520, 520), (138, 138), (137, 137), (67, 67))}),
        ("atcp", "sudp", {"mode": "traps", "trap_tcp": ((0, 112), (114, 138), (140, 1023)),
                          "trap_udp": ((7, 7), (9, 9))}),
        ("tcp", "off", {"mode": "traps", "decoy": ((1, 1), (11, 11), (15, 15))}),
        ("-STCP", "audp", {"mode": "traps", "trap_tcp": ((1, 1), (11, 11), (15, 15)),
                           "trap_udp": ((0, 66), (68, 136), (139, 519), (521, 1023))}),
    ],
    ids=["classic", "stealth", "advanced", "mixed", "only-tcp", "mixed-udp"],
)  # fmt: skip
def test_modes(make_etc: MakeEtc, tcp: str, udp: str, expected: dict[str, Any]) -> None:
    made = _config(_import(make_etc(), tcp, udp))
    found = {**dict(made.watch), "decoy": made.decoy.tcp, "decoy_udp": made.decoy.udp}
    nothing = {**dict(Config().watch), "decoy": (), "decoy_udp": ()}
    assert found == {**nothing, **expected}


def test_debians_default_file_says_the_modes(make_etc: MakeEtc) -> None:
    default = '# made by postinst\nTCP_MODE="atcp"\nUDP_MODE="audp"\n'
    made = _config(_import(make_etc(**{"/etc/default/portsentry": default})))
    assert made.watch.mode == "unlisted"


def test_a_mode_that_the_default_file_leaves_out_is_off(make_etc: MakeEtc) -> None:
    imported = _import(make_etc(**{"/etc/default/portsentry": 'TCP_MODE="stcp"\n'}))
    made = _config(imported)
    assert made.watch.trap_tcp
    assert not made.watch.trap_udp
    assert not made.decoy.udp


def test_a_mode_that_nobody_says_is_assumed_and_said_so(make_etc: MakeEtc) -> None:
    imported = _import(make_etc())
    assert _config(imported).decoy.tcp == ((1, 1), (11, 11), (15, 15))
    assert any("tcp is assumed" in remark.said for remark in imported.warnings)
    second = _import(make_etc(base='# PortSentry 2.0\nTCP_PORTS="1,5-11"\nUDP_PORTS="7"\n'))
    assert _config(second).watch.trap_tcp == ((1, 1), (5, 11))


@pytest.mark.parametrize(
    ("bound", "upper"), [("1024", 1024), ("1", 1), ("65536", 65536), ("0", 1), ("99999", 1024)]
)
def test_the_upper_bound_is_exclusive_as_it_was(make_etc: MakeEtc, bound: str, upper: int) -> None:
    etc = make_etc(base=f'ADVANCED_PORTS_TCP="{bound}"\nADVANCED_EXCLUDE_TCP=""\n')
    assert _config(_import(etc, "atcp", "audp")).watch.upper_tcp == upper


def test_the_banner_goes_with_the_modes_that_connect(make_etc: MakeEtc) -> None:
    etc = make_etc('PORT_BANNER="** GO \\"AWAY **"\n')
    assert _config(_import(etc, "tcp", "off")).decoy.banner == "** GO \\"
    assert "PORT_BANNER" in _said(_import(etc, "stcp", "sudp"))


# --- trigger and levels


@pytest.mark.parametrize(
    ("value", "trigger"), [("0", 1), ("1", 1), ("2", 2), ("3", 3), ("50", 50), ("500", 64)]
)
def test_scan_trigger_n_fires_on_hit_max_1_n(make_etc: MakeEtc, value: str, trigger: int) -> None:
    horizons = _config(_import(make_etc(f'SCAN_TRIGGER="{value}"\n'))).horizons()
    assert horizons.repeats
    assert (horizons.trigger, horizons.slow_trigger) == (trigger, trigger)
    assert horizons.triggers.pop("icmp") == 10
    assert set(horizons.triggers.values()) == {trigger}, "no kind makes a scan sooner"


@pytest.mark.parametrize(
    ("tcp", "udp", "levels"),
    [("1", "1", ("block", "block")), ("0", "1", ("observe", "block")),
     ("1", "0", ("block", "observe")), ("2", "2", ("command", "command")),
     ("7", "x", ("observe", "block"))],
)  # fmt: skip
def test_block_levels(make_etc: MakeEtc, tcp: str, udp: str, levels: tuple[str, str]) -> None:
    conf = f'BLOCK_TCP="{tcp}"\nBLOCK_UDP="{udp}"\nKILL_RUN_CMD="/bin/true $TARGET$"\n'
    made = _config(_import(make_etc(conf)))
    assert (made.block.tcp, made.block.udp) == levels
    assert made.policy(()).unlisted == 1


def test_block_levels_that_are_not_set_are_their_generations(make_etc: MakeEtc) -> None:
    first = _config(_import(make_etc()))
    assert (first.block.tcp, first.block.udp) == ("block", "block")
    second = _config(_import(make_etc(base='# PortSentry 2.0\nTCP_PORTS="1"\n')))
    assert (second.block.tcp, second.block.udp) == ("observe", "observe")


def test_level_2_without_a_command_observes_and_says_so(make_etc: MakeEtc) -> None:
    imported = _import(make_etc('BLOCK_TCP="2"\n'))
    assert _config(imported).block.tcp == "observe"
    assert "BLOCK_TCP: 2 is for KILL_RUN_CMD alone" in _said(imported)


# --- reactions


def test_reactions(make_etc: MakeEtc) -> None:
    made = _config(
        _import(
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
        ('KILL_RUN_CMD="/bin/a $TARGET$ | /bin/b"\n', "is for a shell, and none is run"),
        ('KILL_RUN_CMD="a $TARGET$"\n', "is no absolute path"),
        ('KILL_ROUTE="/bin/a"\nKILL_RUN_CMD="/bin/b"\n', "let one script call both"),
        ('KILL_HOSTS_DENY="ALL: ALL"\n', "KILL_HOSTS_DENY: not one line"),
        ("", "BLOCKED_FILE: the kernel's sets"),
        ("", "blocks without end"),
    ],
)
def test_what_cannot_be_carried_over_is_said_with_the_reason(
    make_etc: MakeEtc, conf: str, said: str
) -> None:
    imported = _import(make_etc(conf))
    assert said in _said(imported)
    _config(imported)


def test_a_program_in_kill_route_is_run_as_the_command(make_etc: MakeEtc) -> None:
    made = _config(_import(make_etc('KILL_ROUTE="/usr/local/bin/cut-off $TARGET$"\n')))
    assert made.respond.command.argv == ("/usr/local/bin/cut-off", "{ip}")


# --- files


def test_the_ignore_file_is_never_blocked(make_etc: MakeEtc) -> None:
    ignore = b"127.0.0.1/32\r\n0.0.0.0\r\n10.77.0.200/24 # lan\r\n2001:DB8::1\r\n192.0.2.7"
    imported = _import(make_etc(**{"/etc/portsentry/portsentry.ignore": ignore}))
    addresses = [str(network) for network in _config(imported).never_block.addresses]
    assert addresses == ["10.77.0.0/24", "2001:db8::1/128", "192.0.2.7/32"]
    named = {remark.line: remark.said for remark in imported.warnings if "ignore" in remark.file}
    assert "read as 10.77.0.0/24" in named[3]
    assert "PortSentry 2.x cut the last character off" in named[5]


def test_debians_static_file_is_read_too(make_etc: MakeEtc) -> None:
    etc = make_etc(**{
        "/etc/portsentry/portsentry.ignore": "192.0.2.7\n198.51.100.1\n",
        "/etc/portsentry/portsentry.ignore.static": "192.0.2.7\n",
    })  # fmt: skip
    imported = _import(etc)
    (line,) = [line for line in imported.lines if line.key == "addresses"]
    assert line.value == ["192.0.2.7", "198.51.100.1"]
    assert line.origin.splitlines() == [
        f"{etc}/portsentry.ignore.static line 1: 192.0.2.7",
        f"{etc}/portsentry.ignore line 2: 198.51.100.1",
    ]


def test_a_missing_ignore_file_is_said(make_etc: MakeEtc) -> None:
    assert any("is not there: nobody was spared" in r.said for r in _import(make_etc()).warnings)


def test_hosts_of_the_history_and_the_blocked_files_are_named_once(make_etc: MakeEtc) -> None:
    row = "1169220000 - 01/19/2007 12:00:00 Host: x/{} Port: 11 TCP Blocked\n"
    state = "/var/lib/portsentry/portsentry"
    imported = _import(make_etc(**{
        f"{state}.history": row.format("192.0.2.7") + row.format("192.0.2.8"),
        f"{state}.blocked.tcp": row.format("192.0.2.7"),
        f"{state}.blocked": bytes.fromhex("0200c0000209"),
    }))  # fmt: skip
    assert [str(seen.address) for seen in imported.seen] == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]
    assert "#   sentryfw block 192.0.2.9" in render(imported)


# --- the text


@pytest.mark.parametrize(
    ("path", "said"),
    [("/var/lib/portsentry/portsentry.history", True), ("/var/log/sentryfw/history", False)],
)
def test_a_history_where_the_service_may_not_write_is_said(
    make_etc: MakeEtc,
    path: str,
    said: bool,  # noqa: FBT001 - of the table
) -> None:
    etc = make_etc(base=f'HISTORY_FILE="{path}"\n')
    origins = {line.key: line.origin for line in _import(etc).lines}
    assert ("the service writes below /var/log/sentryfw alone" in origins["path"]) is said


def test_every_key_stands_under_what_it_came_from(make_etc: MakeEtc) -> None:
    text = render(_import(make_etc('SCAN_TRIGGER="2"\n'), "stcp", "sudp")).splitlines()
    at = text.index("trap_tcp = [1, 11, 15]")
    assert text[at - 1] == '# portsentry.conf line 1: TCP_PORTS="1,11,15"'
    at = text.index("trigger = 2")
    assert text[at - 1] == '# portsentry.conf line 10: SCAN_TRIGGER="2", which fires on hit 2'
    keys = [n for n, line in enumerate(text) if " = " in line and not line.startswith("#")]
    assert all(text[n - 1].startswith("#") for n in keys)


VALUES = st.text(max_size=60) | st.sampled_from(
    ["0", "1", "2", "1,5-11", "/x $TARGET$", "ALL: $TARGET$"]
)


@pytest.mark.parametrize("option", ["KILL_ROUTE", "KILL_RUN_CMD"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_command_is_none(option: str, value: str) -> None:
    """BLOCK_UDP 2 wants a command; with an empty one the configuration is good all the same."""
    data = f'BLOCK_UDP="2"\n{option}="{value}"\n'.encode()
    sources = Sources(
        File(Path("/portsentry.conf"), data), parse_settings(data), None, [], [], []
    )  # fmt: skip
    made = _config(convert(sources, None, None))
    assert made.respond.command.argv == ()
    assert made.block.udp != "command"


@given(
    st.dictionaries(st.sampled_from(OPTIONS), VALUES),
    st.sampled_from([None, "tcp", "stcp", "atcp", "off", "?"]),
    st.sampled_from([None, "udp", "sudp", "audp", "off", "?"]),
    st.binary(max_size=100),
)
def test_whatever_the_files_hold_the_result_is_a_configuration(
    values: dict[str, str], tcp: str | None, udp: str | None, ignore: bytes
) -> None:
    data = "".join(f'{name}="{value}"\n' for name, value in values.items()).encode(
        "utf-8", "replace"
    )
    sources = Sources(
        File(Path("/portsentry.conf"), data), parse_settings(data), None,
        [File(Path("/portsentry.ignore"), ignore)], [], [File(Path("/history"), ignore)],
    )  # fmt: skip
    _config(convert(sources, tcp, udp))
