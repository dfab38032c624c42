"""A transparent proxy for connections to others: what its socket takes is listed."""

from typing import Final

import pytest

from support.lab import ATTACKER, INTERFACE, UNLISTED, Sentry, drain
from support.router import BEHIND, SERVICE, Router

pytestmark = [pytest.mark.netns]

FAMILIES: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
PROXY: Final = 3129
IP_TRANSPARENT: Final = 19
IPV6_TRANSPARENT: Final = 75
TPROXY: Final = f"""
table inet divert {{
    chain prerouting {{
        type filter hook prerouting priority mangle;
        iifname != {INTERFACE} accept
        ip daddr {BEHIND[4]} tcp dport {SERVICE} tproxy ip to 127.0.0.1:{PROXY} meta mark set 1
        ip6 daddr {BEHIND[6]} tcp dport {SERVICE} tproxy ip6 to [::1]:{PROXY} meta mark set 1
    }}
}}
"""
"""A proxy that takes what clients send to the host behind."""


@FAMILIES
def test_a_transparent_proxy_takes_the_connections_of_others(
    router: Router, daemon: Sentry, family: int
) -> None:
    """Its socket has neither the address nor the port that the client names."""
    lab = router.lab
    listener = lab.listen(PROXY, family)
    if family == 4:
        listener.setsockopt(0, IP_TRANSPARENT, 1)
    else:
        listener.setsockopt(41, IPV6_TRANSPARENT, 1)
    lab.nft(TPROXY)
    version, everything = ("-4", "0.0.0.0/0") if family == 4 else ("-6", "::/0")
    lab.victim.ip(version, "rule", "add", "fwmark", "1", "lookup", "100")
    lab.victim.ip(version, "route", "add", "local", everything, "dev", "lo", "table", "100")
    for _ in range(10):
        assert router.opens(ATTACKER[family], BEHIND[family], SERVICE)
        listener.settimeout(5)
        client, _ = listener.accept()
        assert client.getsockname()[:2] == (BEHIND[family], SERVICE)
        client.close()
    drain(daemon)
    assert daemon.alerts(ATTACKER[family]) == []
    assert lab.count("judged") == 0
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family])
