"""docs/portsentry.md agrees with the importer, and with the tests."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sentryfw.config.model import Config
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.modes import MODE_NAMES
from sentryfw.tools.portsentry.parse import MODES, OPTIONS
from support.portsentry_page import PAGE, TABLES, check_page, filled, options

MakeEtc = Callable[..., Path]
EVERYTHING = """\
RESOLVE_HOST="1"
BLOCK_TCP="1"
BLOCK_UDP="2"
KILL_ROUTE="{route}"
KILL_HOSTS_DENY="ALL: $TARGET$"
KILL_RUN_CMD="{command}"
KILL_RUN_CMD_FIRST="1"
SCAN_TRIGGER="2"
PORT_BANNER="go away"
"""
ROUTE = "/sbin/route add -host $TARGET$ reject"
COMMAND = "/usr/local/bin/tell $TARGET$"


def test_its_tables_come_from_the_tests() -> None:
    check_page()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_has_been_changed_is_noticed(name: str) -> None:
    page = PAGE.read_text()
    begin = f"<!-- BEGIN {name} -->\n"
    assert filled(page.replace(begin, f"{begin}| forged |\n")) == page


def test_every_option_and_every_mode_is_on_it() -> None:
    assert set(options()) == {*OPTIONS, *MODES}
    modes = PAGE.read_text().partition("## Modes\n")[2].partition("\n## ")[0]
    names = set(MODE_NAMES) - {"", "off", "none"}
    assert {name for name in names if re.search(rf"`--?{name}`", modes)} == names


def test_every_key_beside_an_option_exists() -> None:
    for option, keys in options().items():
        for key in keys:
            section, _, name = key[1:].partition("] ")
            model = Config()
            for part in section.split("."):
                model = getattr(model, part)
            assert name in type(model).model_fields, f"{option}: {key}"


def test_each_option_becomes_the_keys_that_stand_beside_it(make_etc: MakeEtc) -> None:
    """Over all modes: not one more, not one fewer."""
    made: dict[str, set[str]] = {}
    cases = [(ROUTE, COMMAND, ("tcp", "udp")), (ROUTE, COMMAND, ("stcp", "sudp")),
             (ROUTE, COMMAND, ("atcp", "audp")), (ROUTE, COMMAND, ("atcp", "udp")),
             (ROUTE, COMMAND, ("tcp", "audp")), (COMMAND, "", ("tcp", "udp"))]  # fmt: skip
    for case in cases:
        for option, keys in _found(make_etc, *case).items():
            made.setdefault(option, set()).update(keys)
    made["SCAN_TRIGGER"] |= {key for key in made[""] if key.startswith("[detect]")}
    for option, keys in options().items():
        if option != "IGNORE_FILE":  # its keys name the ignore file's own lines
            assert keys == made.get(option, set()), option


def _found(
    make_etc: MakeEtc, route: str, command: str, modes: tuple[str, str]
) -> dict[str, set[str]]:
    """Option -> keys whose origin names it; "": keys that no option was the origin of."""
    etc = make_etc(EVERYTHING.format(route=route, command=command))
    found: dict[str, set[str]] = {}
    for line in convert(collect(etc), *modes).lines:
        named = re.findall(r"line \d+: ([A-Z_]+)", line.origin) or [""]
        for option in named:
            found.setdefault(option, set()).add(f"[{line.section}] {line.key}")
    return found
