"""The findings of doctor about interfaces, bridges and routing."""

import json

import pytest

from support.box import Box

pytestmark = [pytest.mark.netns]

OUTSIDE = '[watch]\ninterfaces = ["wan0"]\n'
GUESTS = '[[zone]]\nname = "guests"\ninterfaces = ["lan0", "wg*"]\n'
PORT = (("link", "set", "wan0", "master", "br0"),)
TWO_PORTS = (*PORT, ("link", "set", "lan0", "master", "br0"))


def _doctor(box: Box, settings: str, *commands: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Its findings in a box with the ends of a wire, wan0 and lan0, and a bridge."""
    box.namespace.ip("link", "add", "wan0", "type", "veth", "peer", "name", "lan0")
    box.namespace.ip("link", "add", "br0", "type", "bridge")
    for words in commands:
        if words[0] == "link":
            box.namespace.ip(*words)
        else:
            assert box.namespace.run("sysctl", "-qw", *words).returncode == 0
    with box.config.open("a") as file:
        file.write(settings)
    done = box.sentryfw("doctor", "--json")
    return {(f["check"], f["state"], f["detail"]) for f in json.loads(done.stdout)}


ROUTES = ("net.ipv4.ip_forward=1",)
SHOWN = ("net.bridge.bridge-nf-call-iptables=1",)
UNSHOWN = ("net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")


@pytest.mark.parametrize(
    ("settings", "commands", "wanted"),
    [
        (OUTSIDE, (), ("interface", "ok", "wan0 is watched")),
        ('[watch]\ninterfaces = ["ppp*"]', (), ("interface", "info", "ppp*: no such")),
        (OUTSIDE, PORT, ("interface", "warn", "wan0 is a port of br0")),
        (GUESTS, (), ("zone", "ok", "guests: lan0")),
        (GUESTS, (), ("zone", "info", "guests: wg*: no such interface at present; it is judged")),
        (GUESTS, TWO_PORTS, ("zone", "warn", "guests: lan0 is a port of br0, the interface")),
        ('[watch]\ninside = ["lan0"]\n', (), ("zone", "ok", "inside: lan0")),
        ("", (UNSHOWN, *TWO_PORTS), ("bridge", "info", "neither judged nor blocked")),
        ("", (SHOWN, *TWO_PORTS), ("bridge", "ok", "br0: blocks apply")),
        (
            '[watch]\ninterfaces = ["br*"]\nforward = true',
            (SHOWN, *TWO_PORTS),
            ("bridge", "warn", "from inside are judged"),
        ),
        (f"{OUTSIDE}forward = true", (), ("forward", "warn", "does not route")),
        ("", (ROUTES,), ("forward", "info", "watch.forward")),
        (f"{OUTSIDE}forward = true", (ROUTES,), ("forward", "ok", "behind this one")),
    ],
    ids=[
        "watched", "none-yet", "port", "zone", "zone-none-yet", "zone-port", "zone-inside",
        "bridge-unseen", "bridge-seen", "bridge-both-sides",
        "no-routes", "routes", "forward",
    ],
)  # fmt: skip
def test_doctor_reports_the_network_it_sees(
    box: Box, settings: str, commands: tuple[tuple[str, ...], ...], wanted: tuple[str, str, str]
) -> None:
    check, state, detail = wanted
    told = [(s, d) for c, s, d in _doctor(box, settings, *commands) if c == check]
    assert [s for s, d in told if detail in d] == [state], told


def test_a_bridge_with_one_port_is_not_reported(box: Box) -> None:
    assert not [f for f in _doctor(box, "", UNSHOWN, *PORT) if f[0] == "bridge"]
