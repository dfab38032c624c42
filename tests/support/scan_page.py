"""docs/scans.md, made of the table that the tests run."""

import ast
import os
from pathlib import Path
from typing import Final

from support.scans import SCANS, Scan

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = ROOT / "docs" / "scans.md"

NEGATIVE: Final = (
    "tests/kernel/test_only_scans.py",
    "tests/kernel/test_only_scans_strays.py",
    "tests/engine/test_engine_only_scans.py",
)

HEAD: Final = """\
# Scans

Scans that are recognised, and traffic that is not a scan, as the tests show it. The tables are
written by `SENTRYFW_DOCS=write pytest tests/kernel/test_every_scan.py`, and a test compares them.

"Probes until block" counts distinct targets with the default triggers; a packet that is sent
again is not counted. PortSentry's names are those of its log for packets to a port that it watches,
according to its source; 1.2 does not support IPv6.

## Recognised scans

"""

PROSE: Final = """
`--badsum` and `--ttl` are not run over IPv6: nmap 7.93 then sends nothing, because its own
neighbour discovery breaks. It refuses `-f` and `--mtu` there.

- A Window scan (`-sW`) sends the packets of an ACK scan and reads the answers differently, so on
  the wire the two are equal.
- A connect scan (`-sT`) is shown as `syn`: it is judged at its SYN, before there is a connection.
  One that reaches listed ports only finishes its handshakes like a client, and is not blocked.
- A SYN scan of listed ports by nmap, masscan, zmap 3 or hping3 with their defaults gets no answer:
  a SYN of that shape is deferred until it comes again, and counts half until then. Of another shape
  it is recognised by its resets, of 32 ports: health checks end so. A source that resets the same
  ports again a second later, and none that is new, is a health check. Half-open connections
  without a reset are not counted: a forged SYN flood looks the same, and innocents would be
  blocked. Who opens twelve listed ports or more within two minutes, by half-open or by finished
  connections, and sends data to few of them is reported as `listed-scan`, and not blocked.
- ACK and FIN+ACK to listed ports outside a connection are half a target each, and not dropped.
- A scan that many sources share out is a `distributed-scan`: 16 sources that probe 32 ports of one
  address within a minute, 6 of an IPv4 /24 or an IPv6 /56, or 12 of a /48, that probe different
  targets within `window`; on link, 8 addresses of one hardware address, which the finding names;
  twice as many targets where each is tried several times. It is always reported, and for a minute
  after its last sign strangers there are deferred: a raw scan learns nothing more, a real
  connection costs a second. With `[block] prefixes` strangers of the prefix, or of the hardware
  address, are dropped; datagrams are not deferred, so only that hides UDP services. Below that
  pace, or before the finding (its first 50 probes), it is not noticed; nor is one port of many
  addresses, each tried by another source. In front of 1,024 addresses and more, forged probes can
  push the scanned one out of memory before it is a finding: that takes 128 for each probe of the
  scan, each to an address that was not probed before (127 do not suffice), or 8 million to hide a
  scan of all ports. Its sources are then only judged one by one.
- `--scanflags` with SYN/ACK, or with RST alone, is not recognised: a host gets such packets as
  answers when its address is forged.
- Datagrams to ports from 32768 on with at most 30 hops left count as a path trace, up to 96 ports
  of a source within the window; they are answered. Beyond that each is a target: a UDP scan whose
  TTL fits the distance (`-sU --ttl`) finds out about 96 ports from each of its sources.
- Datagrams that look like late replies (DNS, NTP, SNMP, NetBIOS, SSDP, RTCP) are no evidence. They
  get no answer, unless their source answered this host before: such a server can find closed UDP
  ports by them, as fast as the kernel answers (one a second for each source, `icmp_ratelimit`).
- With `[watch] forward` a ping, or a packet of a tunnel (GRE, IP in IP, 6in4, IPsec), reaches the
  host behind, and its answer shows that the address is used. Ten pinged addresses are a portsweep.
  Tunnels are not judged: after a boot, the far end of many tunnels sends to all of them, as a sweep
  does, and no handshake shows that it is known. Without tunnels there, drop them in a chain of your
  own: `meta l4proto { 4, 41, 47, 50, 51 } ct state new drop`, hook forward, on the outer interface.
- Datagrams to broadcast and multicast addresses are not judged: they are sent to all, and discovery
  sends many. A neighbour can find by them which UDP services answer there; routers do not forward
  them.
- UDP-Lite and DCCP are judged by their ports, and not dropped below the trigger: as for SCTP, the
  kernel does not say which of them are open.
- An ICMP error about a header that this host does not process (ESP or AH without a key, an unknown
  next header, a first fragment without its ports) is the kernel's, and the same for every port.
- The true sender behind decoys (`-D`) is unknown, so each source of the group is blocked for ten
  minutes at most, without an offence. From its third group with other decoys on, the source that
  is alone in all of them is known to be the sender; decoys that never change hide it. A group that
  only lacks members of the one seconds before does not count: they were blocked first.

## Traffic that is not a scan

Each line is a test, which fails without the rule that recognises the traffic as harmless.

"""


def page() -> str:
    """Return the text of docs/scans.md."""
    columns = ("tool and option", "family", "recognised as", "finding", "probes until block")
    lines = [_row(*columns, "PortSentry"), "|---|---|---|---|---|---|"]
    lines += [_scan_row(scan) for scan in SCANS]
    body = HEAD + "\n".join(lines) + "\n" + PROSE
    lines = ["| traffic | shown in |", "|---|---|"]
    for place in NEGATIVE:
        lines += [_row(claim, f"`{place}`") for claim in _claims(ROOT / place)]
    return body + "\n".join(lines) + "\n"


def check_page() -> None:
    """Compare the committed page with the generated one; SENTRYFW_DOCS=write writes it."""
    if os.environ.get("SENTRYFW_DOCS") == "write":
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it again: SENTRYFW_DOCS=write"


def _scan_row(scan: Scan) -> str:
    where = ", listed ports only" if scan.where == "open" else ""
    families = " and ".join(f"IPv{family}" for family in scan.families)
    option = f"`{scan.tool} {scan.options}`{where}"
    return _row(option, families, scan.kind, scan.finding, str(scan.probes), scan.portsentry)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


UNCLAIMED: Final = {
    "a scan of the same ports is recognised",  # the counterpart
    "late packets of a server that we called cause no block",  # not yet true
}


def _claims(path: Path) -> list[str]:
    """Return the names of a file's tests as sentences."""
    names = [
        node.name.removeprefix("test_")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    claims = (name.replace("_s_", "'s ").replace("_", " ") for name in names)
    return [claim for claim in claims if claim not in UNCLAIMED]
