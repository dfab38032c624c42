"""PortSentry's modes, ports and banner become [watch] and [decoy]."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from support.portsentry_etc import config_of, import_etc, reasons

MakeEtc = Callable[..., Path]


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
    made = config_of(import_etc(make_etc(), tcp, udp))
    found = {**dict(made.watch), "decoy": made.decoy.tcp, "decoy_udp": made.decoy.udp}
    nothing = {**dict(Config().watch), "decoy": (), "decoy_udp": ()}
    assert found == {**nothing, **expected}


def test_debians_default_file_sets_the_modes(make_etc: MakeEtc) -> None:
    default = '# made by postinst\nTCP_MODE="atcp"\nUDP_MODE="audp"\n'
    made = config_of(import_etc(make_etc(**{"/etc/default/portsentry": default})))
    assert made.watch.mode == "unlisted"


def test_a_mode_that_the_default_file_leaves_out_is_off(make_etc: MakeEtc) -> None:
    imported = import_etc(make_etc(**{"/etc/default/portsentry": 'TCP_MODE="stcp"\n'}))
    made = config_of(imported)
    assert made.watch.trap_tcp
    assert not made.watch.trap_udp
    assert not made.decoy.udp


def test_a_mode_that_no_file_sets_is_assumed_with_a_warning(make_etc: MakeEtc) -> None:
    imported = import_etc(make_etc())
    assert config_of(imported).decoy.tcp == ((1, 1), (11, 11), (15, 15))
    assert any("tcp is assumed" in remark.said for remark in imported.warnings)
    second = import_etc(make_etc(base='# PortSentry 2.0\nTCP_PORTS="1,5-11"\nUDP_PORTS="7"\n'))
    assert config_of(second).watch.trap_tcp == ((1, 1), (5, 11))


@pytest.mark.parametrize(
    ("bound", "upper"), [("1024", 1024), ("1", 1), ("65536", 65536), ("0", 1), ("99999", 1024)]
)
def test_the_upper_bound_is_exclusive_as_it_was(make_etc: MakeEtc, bound: str, upper: int) -> None:
    etc = make_etc(base=f'ADVANCED_PORTS_TCP="{bound}"\nADVANCED_EXCLUDE_TCP=""\n')
    assert config_of(import_etc(etc, "atcp", "audp")).watch.upper_tcp == upper


def test_the_banner_goes_with_the_modes_that_connect(make_etc: MakeEtc) -> None:
    etc = make_etc('PORT_BANNER="** GO \\"AWAY **"\n')
    assert config_of(import_etc(etc, "tcp", "off")).decoy.banner == "** GO \\"
    assert "PORT_BANNER" in reasons(import_etc(etc, "stcp", "sudp"))
