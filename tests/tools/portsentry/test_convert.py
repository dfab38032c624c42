"""PortSentry's options become SentryFW's keys, with PortSentry's semantics."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import File, PortSentryFiles
from sentryfw.tools.portsentry.parse import OPTIONS, parse_settings
from sentryfw.tools.portsentry.render import render
from support.portsentry_etc import config_of, import_etc, reasons

MakeEtc = Callable[..., Path]


# --- trigger and levels


@pytest.mark.parametrize(
    ("value", "trigger"), [("0", 1), ("1", 1), ("2", 2), ("3", 3), ("50", 50), ("500", 64)]
)
def test_scan_trigger_n_fires_on_hit_max_1_n(make_etc: MakeEtc, value: str, trigger: int) -> None:
    horizons = config_of(import_etc(make_etc(f'SCAN_TRIGGER="{value}"\n'))).horizons()
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
    made = config_of(import_etc(make_etc(conf)))
    assert (made.block.tcp, made.block.udp) == levels
    assert made.policy().unlisted == 1


def test_block_levels_that_are_not_set_are_their_generations(make_etc: MakeEtc) -> None:
    first = config_of(import_etc(make_etc()))
    assert (first.block.tcp, first.block.udp) == ("block", "block")
    second = config_of(import_etc(make_etc(base='# PortSentry 2.0\nTCP_PORTS="1"\n')))
    assert (second.block.tcp, second.block.udp) == ("observe", "observe")


def test_level_2_without_a_command_observes_with_a_reason(make_etc: MakeEtc) -> None:
    imported = import_etc(make_etc('BLOCK_TCP="2"\n'))
    assert config_of(imported).block.tcp == "observe"
    assert "BLOCK_TCP: 2 is for KILL_RUN_CMD alone" in reasons(imported)


# --- files


def test_the_ignore_file_is_never_blocked(make_etc: MakeEtc) -> None:
    ignore = b"127.0.0.1/32\r\n0.0.0.0\r\n10.77.0.200/24 # lan\r\n2001:DB8::1\r\n192.0.2.7"
    imported = import_etc(make_etc(**{"/etc/portsentry/portsentry.ignore": ignore}))
    addresses = [str(network) for network in config_of(imported).never_block.addresses]
    assert addresses == ["10.77.0.0/24", "2001:db8::1/128", "192.0.2.7/32"]
    named = {remark.line: remark.said for remark in imported.warnings if "ignore" in remark.file}
    assert "read as 10.77.0.0/24" in named[3]
    assert "PortSentry 2.x cut the last character off" in named[5]


def test_debians_static_file_is_read_too(make_etc: MakeEtc) -> None:
    etc = make_etc(**{
        "/etc/portsentry/portsentry.ignore": "192.0.2.7\n198.51.100.1\n",
        "/etc/portsentry/portsentry.ignore.static": "192.0.2.7\n",
    })  # fmt: skip
    imported = import_etc(etc)
    (line,) = [line for line in imported.lines if line.key == "addresses"]
    assert line.value == ["192.0.2.7", "198.51.100.1"]
    assert line.origin.splitlines() == [
        f"{etc}/portsentry.ignore.static line 1: 192.0.2.7",
        f"{etc}/portsentry.ignore line 2: 198.51.100.1",
    ]


def test_a_missing_ignore_file_has_a_warning(make_etc: MakeEtc) -> None:
    assert any(
        "does not exist: it exempted no source" in r.said for r in import_etc(make_etc()).warnings
    )


def test_hosts_of_the_history_and_the_blocked_files_are_named_once(make_etc: MakeEtc) -> None:
    row = "1169220000 - 01/19/2007 12:00:00 Host: x/{} Port: 11 TCP Blocked\n"
    state = "/var/lib/portsentry/portsentry"
    imported = import_etc(make_etc(**{
        f"{state}.history": row.format("192.0.2.7") + row.format("192.0.2.8"),
        f"{state}.blocked.tcp": row.format("192.0.2.7"),
        f"{state}.blocked": bytes.fromhex("0200c0000209"),
    }))  # fmt: skip
    assert [str(seen.address) for seen in imported.seen] == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]
    assert "#   sentryfw block 192.0.2.9" in render(imported)


# --- any content


VALUES = st.text(max_size=60) | st.sampled_from(
    ["0", "1", "2", "1,5-11", "/x $TARGET$", "ALL: $TARGET$"]
)


@given(
    st.dictionaries(st.sampled_from(OPTIONS), VALUES),
    st.sampled_from([None, "tcp", "stcp", "atcp", "off", "?"]),
    st.sampled_from([None, "udp", "sudp", "audp", "off", "?"]),
    st.binary(max_size=100),
)
def test_any_content_of_the_files_gives_a_configuration(
    values: dict[str, str], tcp: str | None, udp: str | None, ignore: bytes
) -> None:
    data = "".join(f'{name}="{value}"\n' for name, value in values.items()).encode(
        "utf-8", "replace"
    )
    sources = PortSentryFiles(
        File(Path("/portsentry.conf"), data), parse_settings(data), None,
        [File(Path("/portsentry.ignore"), ignore)], [], [File(Path("/history"), ignore)],
    )  # fmt: skip
    config_of(convert(sources, tcp, udp))
