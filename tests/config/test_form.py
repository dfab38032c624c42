"""Sections without pydantic: the values, and what is derived from them, are the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw import config

SHOW: Final = """
import json
def show(found):
    return json.loads(json.dumps({
        "json": found.model_dump(mode="json"), "geo": found.geo.model_dump(mode="json"),
        "zones": repr(found.zones()), "named": [zone.name for zone in found.named_zones()],
        "accepting": found.accepting(), "drops": found.drops_while_away,
        "ledger": str(found.paths.ledger), "decoys": sorted(found.decoy.tcp_ports),
        "syslog": found.respond.syslog.service, "metrics": str(found.metrics.address),
        "hub": found.fleet.hub.is_on and repr(found.fleet.hub.addresses),
        "mirrors": found.fleet.mirrors,
        "fields": sorted(type(found.watch).model_fields), "hash": len({found.paths, found.queue}),
        "networks": str((found.never_block.addresses, found.detect.whole6)),
    }))
"""
PLAIN: Final = """
import sys
from sentryfw.config import plain
plain.is_used = True
from pathlib import Path
from sentryfw import config
one, other = (config.load(Path(sys.argv[1])) for _ in range(2))
assert one == other and one != config.parse(b"[detect]\\ntrigger = 9", "other")
assert not [name for name in sys.modules if name.startswith("pydantic")]
print(json.dumps(show(one)))
"""
EVERYTHING: Final = """
[paths]
state = "/srv/state"
[watch]
inside = ["lan0"]
forward = true
listed_tcp = [22, "6000-6010"]
[[watch.listed_forward]]
to = "192.0.2.0/24"
tcp = [80]
protocols = ["icmp"]
[decoy]
tcp = ["1000-1002"]
hold = "10m"
[detect]
window = "1h30m"
whole6 = ["2001:db8::/32"]
[detect.triggers]
null = 3
[inside]
trigger = 5
[[zone]]
name = "guest"
interfaces = ["wg*"]
mode = "observe"
trigger = 7
timeouts = ["1h", 2.5]
never_block = ["198.51.100.0/24"]
[block]
timeouts = ["90s", "1d"]
while_away = "drop"
[never_block]
addresses = ["192.0.2.1", "2001:db8::/32"]
files = ["/etc/friends"]
[metrics]
listen = "127.0.0.1:9577"
[respond.command]
argv = "/bin/true $TARGET$"
[respond.syslog]
host = "log.example.org"
transport = "tls"
[[respond.webhook]]
url = "https://hooks.example.org/x"
[geo]
databases = ["/srv/geo.mmdb"]
[fleet]
name = "fw1"
[fleet.hub]
url = "rediss://hub.example.org"
[fleet.members.fw2]
key = "{key}"
trust = "full"
""".replace("{key}", "0f" * 32)


def in_another_process(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", SHOW + PLAIN, place],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", EVERYTHING], ids=["the defaults", "every section"])
def test_values_and_what_follows_from_them_are_those_of_pydantic_s_models(
    tmp_path: Path, text: str
) -> None:
    place = tmp_path / "sentryfw.toml"
    place.write_text(text)
    scope: dict[str, Any] = {}
    exec(SHOW, scope)  # noqa: S102 - the code that the other process runs
    done = in_another_process(place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == scope["show"](config.load(place))
