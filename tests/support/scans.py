"""The table of scans: commands, and the expected findings."""

import shlex
from typing import Final, NamedTuple

from sentryfw.config.model import Config
from support.lab import ATTACKER, VICTIM

PORTS: Final = "7001-7010"
OPEN: Final = range(9001, 9011)
"""Ports with a listener, for scans of nothing else."""
SWEPT: Final = {
    4: [f"198.18.0.{number}" for number in range(97, 109)],
    6: [f"2001:2::1:{number:x}" for number in range(1, 13)],
}
"""Twelve more addresses of the victim."""
DECOYS: Final = {4: ("198.18.0.50", "198.18.0.51"), 6: ("2001:2:0:50::1", "2001:2:0:51::1")}
BOTH: Final = (4, 6)
FOUR: Final = (4,)

NONE: Final = "nothing"
SYN: Final = "SYN/Normal scan"
OTHER: Final = "Unknown Type"


class Scan(NamedTuple):
    """A scan, and the expected result."""

    tool: str
    options: str
    kind: str
    portsentry: str
    """PortSentry's name for it (1.2 and 2.x, where they watch the port)."""
    families: tuple[int, ...] = BOTH
    finding: str = "portscan"
    where: str = "unlisted"
    """Ports of the scan: unlisted, open, or swept (one port of twelve addresses)."""
    targets: int | None = None
    """Distinct targets until the block; None: the default triggers."""
    arguments: str = ""
    """Arguments that the page leaves out."""

    @property
    def probes(self) -> int:
        detect = Config().detect
        return self.targets or detect.triggers.get(self.kind, detect.trigger)  # type: ignore[call-overload]

    def command(self, family: int, mac: str) -> list[str]:
        """Return the command for the attacker's host. `mac`: the victim's."""
        return _COMMANDS[self.tool](self, family, mac)


def _nmap(scan: Scan, family: int, _mac: str) -> list[str]:
    words = ["nmap", "-n", "--max-retries", "1", *shlex.split(scan.options)]
    words += shlex.split(scan.arguments)
    if "-sn" not in words:
        words.append("-Pn")
        if "-p" not in words:
            words += ["-p", f"{OPEN[0]}-{OPEN[-1]}" if scan.where == "open" else PORTS]
    if "-D" in words:
        words[words.index("-D") + 1] = ",".join((*DECOYS[family], "ME"))
    if family == 6:
        words += ["-6", "-S", ATTACKER[6], "-e", "veth0"]
    return words + (SWEPT[family] if scan.where == "swept" else [VICTIM[family]])


def _hping3(scan: Scan, family: int, _mac: str) -> list[str]:
    return ["hping3", *shlex.split(scan.options), *shlex.split(scan.arguments), VICTIM[family]]


def _masscan(scan: Scan, family: int, mac: str) -> list[str]:
    router = "--router-mac" if family == 4 else "--router-mac-ipv6"
    words = ["masscan", *shlex.split(scan.options), "--rate", "100", "-e", "veth0", "--wait", "0"]
    return [*words, router, mac.replace(":", "-"), "--source-ip", ATTACKER[family], VICTIM[family]]


def _zmap(scan: Scan, family: int, mac: str) -> list[str]:
    words = ["zmap", *shlex.split(scan.options), *shlex.split(scan.arguments), "-q", "-b/dev/null"]
    return [*words, "-i", "veth0", "-G", mac, "-S", ATTACKER[family], "-r", "200", "198.18.0.96/28"]


_COMMANDS: Final = {"nmap": _nmap, "hping3": _hping3, "masscan": _masscan, "zmap": _zmap}


def _nmap_scans() -> list[Scan]:
    rows = [
        ("-sS", "syn", SYN), ("-sT", "syn", SYN), ("-sF", "fin", "FIN scan"),
        ("-sN", "null", "NULL scan"), ("-sX", "xmas", "XMAS scan"), ("-sM", "maimon", NONE),
        ("-sA", "ack", NONE), ("-sW", "ack", NONE), ("-sU", "udp", "UDP scan"),
        ("-sY", "sctp-init", NONE), ("-sZ", "sctp-cookie-echo", NONE),
    ]  # fmt: skip
    flags = [
        ("URG", "urg", OTHER), ("URGPSH", "urg", OTHER), ("SYNFIN", "synfin", OTHER),
        ("SYNRST", "badflags", NONE), ("PSH", "badflags", OTHER), ("FINPSH", "badflags", OTHER),
        ("FINURG", "badflags", OTHER), ("SYNPSH", "syn", OTHER), ("SYNURG", "syn", OTHER),
        ("URGACKPSHRSTSYNFIN", "badflags", NONE),
    ]  # fmt: skip
    rows += [(f"--scanflags {name}", kind, theirs) for name, kind, theirs in flags]
    scans = [Scan("nmap", options, kind, theirs) for options, kind, theirs in rows]
    scans.append(
        Scan(
            "nmap", "-sO", "protocol", NONE,
            finding="protocol-scan", arguments="-p 3,7,9,11,13,15",
        )
    )  # fmt: skip
    return scans


def _nmap_disguises() -> list[Scan]:
    """-f, --mtu and their like; nmap 7.93 -6 refuses -f and --mtu, and with --badsum or --ttl it
    sends nothing, because its own neighbour discovery breaks."""
    both = ["-g 53", "-g 20", "--data-length 25", "--ip-options R", "-T5"]
    scans = [Scan("nmap", f"-sS {options}", "syn", SYN) for options in both]
    fragments = ("-f", "--mtu 16")
    scans += [
        Scan(
            "nmap", f"-sS {options}", "syn",
            f"{SYN} (1.2), {NONE} (2.x)" if options in fragments else SYN, FOUR,
        )
        for options in (*fragments, "--badsum", "--ttl 7")
    ]  # fmt: skip
    scans += [Scan("nmap", f"-sU {options}", "udp", "UDP scan") for options in ("-g 53", "-p 0-5")]
    scans.append(Scan("nmap", "-sU --ttl 7", "udp", "UDP scan", FOUR))
    scans.append(Scan("nmap", "-sS -p 0-5", "syn", f"{SYN} (port 0: always in 2.x)"))
    scans.append(Scan("nmap", "-sS --min-rate 5000", "syn", SYN, arguments="-p 1-5000"))
    return scans


def _nmap_groups() -> list[Scan]:
    """Half-open, decoys, sweeps."""
    scans = [
        Scan("nmap", option, kind, NONE, where="open", targets=6)
        for option, kind in (("-sS", "syn"), ("-sA", "ack"), ("-sM", "maimon"))
    ]
    for option, kind, theirs in (("-sS", "syn", SYN), ("-sF", "fin", "FIN scan")):
        scans.append(
            Scan(
                "nmap", f"{option} -D decoy,decoy,ME", kind, f"{theirs}, each decoy a scanner",
                finding="decoy-scan",
            )
        )  # fmt: skip
    sweeps = [
        ("-PE", "icmp", BOTH), ("-PP", "icmp", FOUR), ("-PM", "icmp", FOUR),
        ("-PS443", "syn", BOTH), ("-PA443", "ack", BOTH), ("-PU7001", "udp", BOTH),
        ("-PY7001", "sctp-init", BOTH), ("-PO3", "protocol", BOTH),
    ]  # fmt: skip
    theirs = {"syn": SYN, "udp": "UDP scan"}
    scans += [
        Scan(
            "nmap", f"-sn {option}", kind, theirs.get(kind, NONE), families,
            finding="portsweep", where="swept", arguments="--disable-arp-ping",
        )
        for option, kind, families in sweeps
    ]  # fmt: skip
    return scans


def _other_tools() -> list[Scan]:
    flags = [
        ("-S", "syn", SYN), ("-F", "fin", "FIN scan"), ("-F -P -U", "xmas", "XMAS scan"),
        ("-A", "ack", NONE), ("-U", "urg", OTHER), ("-2", "udp", "UDP scan"),
    ]  # fmt: skip
    scans = [
        Scan("hping3", options, kind, theirs, FOUR, arguments="-p ++7001 -i u20000 -c 10")
        for options, kind, theirs in flags
    ]
    scans.append(Scan("masscan", f"-p{PORTS}", "syn", SYN))
    scans.append(Scan("masscan", f"-pU:{PORTS}", "udp", "UDP scan", FOUR))
    modules = [
        ("tcp_synscan -p 7001", "syn", SYN), ("icmp_echoscan", "icmp", NONE),
        ("udp -p 7001", "udp", "UDP scan"),
    ]  # fmt: skip
    scans += [
        Scan("zmap", f"-M {module}", kind, theirs, FOUR, finding="portsweep", where="swept")
        for module, kind, theirs in modules
    ]
    return scans


SCANS: Final = (*_nmap_scans(), *_nmap_disguises(), *_nmap_groups(), *_other_tools())
CASES: Final = [(scan, family) for scan in SCANS for family in scan.families]
