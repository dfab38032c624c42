"""Debian's own portsentry 1.2: its configuration as it is shipped."""

from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.render import render

pytestmark = pytest.mark.peers


def test_the_shipped_configuration_is_read_without_a_warning(debian_root: Path) -> None:
    imported = convert(collect(debian_root / "etc/portsentry"))
    assert imported.warnings == []
    made = config.parse(render(imported).encode(), "imported")
    assert len(made.decoy.tcp) == 26
    assert len(made.decoy.udp) == 21
    assert made.watch.mode == "traps"
    assert (made.block.tcp, made.block.udp) == ("observe", "observe")
    assert (made.detect.count, made.detect.trigger) == ("probes", 1)
    assert made.respond.route.enabled
    assert made.respond.hosts_deny.line == "ALL: {address} : DENY"
    assert made.never_block.addresses == ()
    assert made.respond.history.format == "portsentry1"


def test_every_option_it_sets_is_carried_over_or_has_a_reason(debian_root: Path) -> None:
    sources = collect(debian_root / "etc/portsentry")
    text = render(convert(sources, "atcp", "audp")) + render(convert(sources))
    for name, setting in sources.parsed.options.items():
        assert (
            f"line {setting.line}: {name}" in text
            or f":{setting.line}: {name}:" in text
            or (
                name == "IGNORE_FILE"  # its addresses are all loopback
            )
        ), name
