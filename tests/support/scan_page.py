"""docs/scans.md: made of the table that the tests run, so it says nothing no test has shown."""

import ast
import os
from pathlib import Path
from typing import Final

from support.scans import SCANS, Scan

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = ROOT / "docs" / "scans.md"

NEGATIVE: Final = (
    "tests/netns/test_only_scans.py",
    "tests/netns/test_only_scans_strays.py",
    "tests/engine/test_only_scans.py",
)

HEAD: Final = """\
# Scans

What is recognised, and what is not, as the tests show it: the tables are written by
`SENTRYFW_DOCS=write pytest tests/netns/test_every_scan.py`, and a test compares them.

"Probes until block" counts distinct targets with the default triggers; a packet that is sent
again is none. PortSentry's names are those of its log, as its source sorts the packets to a
port that it watches; 1.2 knows no IPv6.

## What is recognised

"""

PROSE: Final = """
`--badsum` and `--ttl` are not run over IPv6: nmap 7.93 then sends nothing, because its own
neighbour discovery breaks. `-f` and `--mtu` it refuses there.

- A Window scan (`-sW`) sends the packets of an ACK scan; it differs in what it reads out of the
  answers, so on the wire the two cannot be told apart.
- A connect scan (`-sT`) shows as `syn`: it is judged at its SYN, before there is a connection.
  One that touches listed ports only is a client, who finishes handshakes, and is not blocked.
- A SYN scan of listed ports is known by its resets, each of which counts half. Half-open
  connections that stay silent are not counted: a forged SYN flood looks exactly the same, and
  would have innocent addresses blocked.
- `--scanflags` with SYN/ACK, or with RST alone, is not recognised: those are the answers that
  a host gets to what others forged in its name.
- Datagrams to ports from 32768 on with at most 10 hops left are taken for a path trace. A UDP
  scan that sets its TTL to fit the distance (`-sU --ttl`) is missed on those ports.
- The true sender behind decoys (`-D`) is unknown, so each of the group is blocked for ten minutes
  at most, and it is no offence.

## What is no scan

Each line is a test, which fails without the rule that spares it.

"""


def page() -> str:
    """docs/scans.md, whole."""
    columns = ("tool and option", "family", "recognised as", "finding", "probes until block")
    lines = [_row(*columns, "PortSentry"), "|---|---|---|---|---|---|"]
    lines += [_scan_row(scan) for scan in SCANS]
    body = HEAD + "\n".join(lines) + "\n" + PROSE
    lines = ["| what the world sends | shown in |", "|---|---|"]
    for place in NEGATIVE:
        lines += [_row(claim, f"`{place}`") for claim in _claims(ROOT / place)]
    return body + "\n".join(lines) + "\n"


def check_page() -> None:
    """The committed page is the one that the tables make. SENTRYFW_DOCS=write writes it."""
    if os.environ.get("SENTRYFW_DOCS") == "write":
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it anew: SENTRYFW_DOCS=write"


def _scan_row(scan: Scan) -> str:
    where = ", listed ports only" if scan.where == "open" else ""
    families = " and ".join(f"IPv{family}" for family in scan.families)
    option = f"`{scan.tool} {scan.options}`{where}"
    return _row(option, families, scan.kind, scan.finding, str(scan.probes), scan.portsentry)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


UNCLAIMED: Final = {
    "the same ports in a scan are one",  # the counter-proof
    "late packets of a server that we called block nobody",  # not yet true
}


def _claims(path: Path) -> list[str]:
    """The names of a file's tests, read as sentences."""
    names = [
        node.name.removeprefix("test_")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    claims = (name.replace("_s_", "'s ").replace("_", " ") for name in names)
    return [claim for claim in claims if claim not in UNCLAIMED]
