"""The text of an import: each key below its origin."""

from collections.abc import Callable
from pathlib import Path

from sentryfw.tools.portsentry.render import render
from support.portsentry_etc import import_etc

MakeEtc = Callable[..., Path]


def test_every_key_is_below_its_origin(make_etc: MakeEtc) -> None:
    text = render(import_etc(make_etc('SCAN_TRIGGER="2"\n'), "stcp", "sudp")).splitlines()
    at = text.index("trap_tcp = [1, 11, 15]")
    assert text[at - 1] == '# portsentry.conf line 1: TCP_PORTS="1,11,15"'
    at = text.index("trigger = 2")
    assert text[at - 1] == '# portsentry.conf line 10: SCAN_TRIGGER="2", which fires on hit 2'
    keys = [n for n, line in enumerate(text) if " = " in line and not line.startswith("#")]
    assert all(text[n - 1].startswith("#") for n in keys)
