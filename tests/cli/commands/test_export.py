"""export: each format, read back by what reads it; which sources it accuses, and which not."""

import base64
import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sentryfw.cli.commands.export import FORMATS, AbuseReporter, print_export
from sentryfw.config.model import Config
from sentryfw.engine.model import Probe, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.record.captures import Capture, CaptureStore, recent_probe
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, ProbeTrace
from sentryfw.tools.drill.namespace import Namespace
from support import forge
from support.box import Box
from support.entries import BLOCK, SIX
from support.fake_host import FakeHost
from support.host import Host

FOUR, NETWORK, BY_HAND = "198.18.0.2", "203.0.113.0/24", "192.0.2.99"
WHO = ("--org", "Example", "--contact", "abuse@example.org", "--domain", "example.org")


def trace(at: float) -> tuple[ProbeTrace, ...]:
    return tuple(ProbeTrace(at - n, "syn", False, f"198.18.0.1 tcp/{22 + n}") for n in range(3))


@pytest.fixture(scope="module")
def blocked() -> Iterator[FakeHost]:
    """An IPv4 scanner, an IPv6 /64, a network and a block by hand; all blocked now. Tests only
    read it."""
    with FakeHost() as box:
        box.install()
        for address in (FOUR, SIX.address, NETWORK, BY_HAND):
            assert box.sentryfw("block", address, "--timeout", "2h").returncode == 0
        now = time.time()
        with Ledger(box.settings.paths.ledger) as ledger:
            for entry in (BLOCK, SIX):
                ledger.add([entry._replace(blocked_at=now, first_seen=now - 2, trace=trace(now))])
        yield box


@pytest.fixture
def past(tmp_path: Path) -> Config:
    """A host of which only the ledger is left."""
    return Config.model_validate({"paths": {"state": tmp_path / "state"}})


def remember(config: Config, **fields: Any) -> DecisionRecord:
    now = time.time()
    entry = BLOCK._replace(blocked_at=now, first_seen=now - 2, trace=trace(now), **fields)
    with Ledger(config.paths.ledger) as ledger:
        ledger.add([entry])
    return entry


def capture(config: Config, entry: DecisionRecord, source: str, target: str) -> None:
    """The packet behind a block, as the daemon keeps it."""
    make = forge.ipv4 if entry.family == 4 else forge.ipv6
    payload = make(source, target, forge.TCP, forge.tcp(22, sport=40123))
    probe = Probe(parse_source(source, LINK_LOCAL_ONLY), (bytes(4), 6, 22), "syn")
    CaptureStore(config.paths.evidence, 10, 3600).write([
        Capture(entry, [recent_probe(probe, payload, entry.blocked_at)])
    ])  # fmt: skip


class Printed(NamedTuple):
    out: str
    said: list[str]


@pytest.fixture
def export_past(past: Config, capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    """Export the last hour of it."""

    def run(form: str, *, proven: bool = False) -> Printed:
        said: list[str] = []
        who = AbuseReporter("Example", "abuse@example.org", "example.org", 4711)
        print_export(past, None, form, 3600.0, who, said.append, proven=proven)  # type: ignore[arg-type]
        return Printed(capsys.readouterr().out, said)

    return run


def export(host: Host, form: str, *words: str) -> str:
    done = host.sentryfw("export", "--format", form, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_is_one_a_line(blocked: FakeHost) -> None:
    assert set(export(blocked, "plain").splitlines()) == {FOUR, SIX.address, NETWORK, BY_HAND}


def test_cidr_has_a_prefix_length_always(blocked: FakeHost) -> None:
    lines = export(blocked, "cidr").splitlines()
    assert set(lines) == {f"{FOUR}/32", SIX.address, NETWORK, f"{BY_HAND}/32"}
    assert all(str(ip_network(line)) == line for line in lines)


@pytest.mark.netns
def test_nft_loads_it_with_what_is_left(blocked: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "blocked.nft"
    path.write_text(export(blocked, "nft"))
    other = Namespace()
    try:
        done = other.run("nft", "-f", str(path))
        assert done.returncode == 0, done.stderr
        listing = json.loads(other.run("nft", "-j", "list", "ruleset").stdout)
    finally:
        other.close()
    sets = {item["set"]["name"]: item["set"] for item in listing["nftables"] if "set" in item}
    four = {json.dumps(e["elem"]["val"]): e["elem"] for e in sets["blocked4"]["elem"]}
    assert set(four) == {
        f'"{FOUR}"', f'"{BY_HAND}"', '{"prefix": {"addr": "203.0.113.0", "len": 24}}'
    }  # fmt: skip
    assert 7100 < four[f'"{FOUR}"']["timeout"] <= 7200
    assert len(sets["blocked6"]["elem"]) == 1


@pytest.mark.netns
def test_nft_takes_an_address_within_a_network(installed: Box, tmp_path: Path) -> None:
    for address in ("203.0.113.7", NETWORK, "203.0.113.250"):
        installed.sentryfw("block", address)
    path = tmp_path / "blocked.nft"
    path.write_text(export(installed, "nft"))
    done = installed.namespace.run("nft", "-c", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "203.0.113.7" not in path.read_text()


def test_csv_is_read_back(blocked: FakeHost) -> None:
    rows = {row["address"]: row for row in csv.DictReader(io.StringIO(export(blocked, "csv")))}
    assert set(rows) == {FOUR, SIX.address, NETWORK, BY_HAND}
    row = rows[FOUR]
    assert (row["scan"], row["kinds"], row["offence"]) == ("portscan", "syn udp", "1")
    assert 7100 < int(row["expires_in_s"]) <= 7200
    assert row["dropped_packets"] == "0"


def test_json_has_the_values_of_csv(blocked: FakeHost) -> None:
    found = json.loads(blocked.sentryfw("export", "--json").stdout)
    named = json.loads(export(blocked, "json"))
    assert [item["address"] for item in found] == [item["address"] for item in named]
    rows = csv.DictReader(io.StringIO(export(blocked, "csv")))
    assert [row["address"] for row in rows] == [item["address"] for item in found]
    by_address = {item["address"]: item for item in found}
    scanner, by_hand = by_address[FOUR], by_address[BY_HAND]
    assert (scanner["scan"], scanner["kinds"], scanner["forgeable"]) == (
        "portscan",
        ["syn", "udp"],
        True,
    )
    assert 0 < scanner["expires_in_s"] <= 7200
    assert (by_hand["family"], by_hand["kinds"]) == ("ipv4", [])


def test_no_field_is_a_formula(past: Config, export_past: Any) -> None:
    remember(past, tool='=HYPERLINK("http://x")', reason="+1\n\x1b[2J")
    [row] = csv.DictReader(io.StringIO(export_past("csv").out))
    assert (row["tool"], row["reason"]) == ('\'=HYPERLINK("http://x")', "'+1??[2J")


def test_stix_is_a_bundle_of_indicators(blocked: FakeHost) -> None:
    bundle = json.loads(export(blocked, "stix"))
    assert (bundle["type"], bundle["objects"][0]["type"]) == ("bundle", "identity")
    found = {item["pattern"]: item for item in bundle["objects"][1:]}
    assert set(found) == {
        f"[ipv4-addr:value = '{FOUR}']", f"[ipv6-addr:value ISSUBSET '{SIX.address}']",
        f"[ipv4-addr:value ISSUBSET '{NETWORK}']", f"[ipv4-addr:value = '{BY_HAND}']",
    }  # fmt: skip
    for item in found.values():
        assert item["valid_from"] < item["valid_until"]
        assert item["valid_from"].endswith("Z")
        assert item["id"].startswith("indicator--")
    again = json.loads(export(blocked, "stix"))["objects"]
    assert {item["id"] for item in again} == {item["id"] for item in bundle["objects"]}


def test_xarf_reports_what_the_engine_found(past: Config, export_past: Any) -> None:
    capture(past, remember(past), FOUR, "198.18.0.1")
    remember(past, address="198.18.0.9")
    remember(past, address=BY_HAND, scan="")
    remember(past, address=SIX.address, family=6)
    printed = export_past("xarf")
    [report] = map(json.loads, printed.out.splitlines())
    assert report["source_identifier"] == FOUR
    assert (report["category"], report["type"], report["protocol"]) == (
        "connection", "port_scan", "tcp",
    )  # fmt: skip
    assert (report["destination_ip"], report["destination_port"]) == ("198.18.0.1", 22)
    assert report["source_port"] == 40123
    assert report["reporter"]["org"] == "Example"
    evidence = base64.b64decode(report["evidence"][0]["payload"]).decode()
    assert "syn probe to 198.18.0.1 tcp/22" in evidence
    assert sorted(text[:40] for text in printed.said) == [
        "left out: 1 (IPv6 networks without a cap",
        "left out: 1 (blocked by hand)",
        "left out: 1 (no captured packet with the",
    ]


def test_xarf_wants_to_know_who_reports(blocked: FakeHost) -> None:
    done = blocked.sentryfw("export", "--format", "xarf", *WHO[:4])
    assert (done.returncode, done.stdout) == (2, "")
    assert "--domain" in done.stderr


def test_of_a_64_the_packet_has_the_address(past: Config, export_past: Any) -> None:
    entry = remember(past, address=SIX.address, family=6)
    capture(past, entry, "2001:2::beef", "2001:2:0:1::1")
    lines = export_past("abuseipdb").out.splitlines()
    assert lines[1].startswith("2001:2::beef,14,")


def test_abuseipdb_takes_the_newest_of_each_and_none_of_our_addresses(
    past: Config, export_past: Any
) -> None:
    for _ in range(3):
        remember(past, tool="nmap")
    text = export_past("abuseipdb").out
    [row] = csv.DictReader(io.StringIO(text))
    assert text.startswith("IP,Categories,ReportDate,Comment\r\n")
    assert (row["IP"], row["Categories"]) == (FOUR, "14")
    assert (
        "5 probes to 3 targets (tcp/22 tcp/23 udp/53), kinds syn udp, tool nmap" in row["Comment"]
    )
    assert "198.18.0.1" not in text


def test_dshield_has_a_line_for_each_probe(past: Config, export_past: Any) -> None:
    capture(past, remember(past), FOUR, "198.18.0.1")
    lines = [line.split("\t") for line in export_past("dshield").out.splitlines()]
    assert [line[1:] for line in lines] == [
        ["4711", "1", FOUR, "40123", "198.18.0.1", "22", "TCP", "S"],
        ["4711", "1", FOUR, "???", "198.18.0.1", "23", "TCP", "S"],
        ["4711", "1", FOUR, "???", "198.18.0.1", "24", "TCP", "S"],
    ]
    assert time.strptime(lines[0][0], "%Y-%m-%d %H:%M:%S +00:00")


@pytest.mark.parametrize(
    ("proven", "count", "said"),
    [(False, 1, ["left out: 1 (decoy scans, whose source addresses are forged)"]), (True, 0, [])],
    ids=["decoys", "proven"],
)
def test_a_source_that_could_be_forged_is_not_accused(
    past: Config, export_past: Any, *, proven: bool, count: int, said: list[str]
) -> None:
    remember(past)
    remember(past, address="198.18.0.3", scan="decoy-scan")
    printed = export_past("abuseipdb", proven=proven)
    assert len(printed.out.splitlines()) == 1 + count
    assert printed.said == said


def test_since_includes_blocks_that_ended(installed: Box) -> None:
    remember(installed.settings)
    assert export(installed, "plain") == ""
    assert export(installed, "plain", "--since", "1h") == f"{FOUR}\n"


@pytest.mark.parametrize("form", FORMATS)
def test_a_ledger_with_foreign_rows_reaches_no_other_program(
    past: Config, export_past: Any, form: str
) -> None:
    for address in ("1.2.3.4 }\n}\nflush ruleset #", "1.2.3.4'] OR [x:y='", "-rf", "\x1b[2J"):
        remember(past, address=address)
    printed = export_past(form)
    assert sum("is not an address" in text for text in printed.said) == 4
    for left in ("flush", "x:y", "-rf", "\x1b"):
        assert left not in printed.out


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_ledger_is_valid(past: Config, export_past: Any, form: str) -> None:
    Ledger(past.paths.ledger).close()
    assert FOUR not in export_past(form).out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--format", "yaml"), 2, "choose one of plain, cidr"),
        (("--since", "soon"), 2, "--since: 'soon' is not a duration"),
        ((), 5, "not installed"),
    ],
    ids=["format", "since", "not installed"],
)
def test_an_impossible_export_is_reported(
    bare_host: FakeHost, words: tuple[str, ...], code: int, said: str
) -> None:
    done = bare_host.sentryfw("export", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@pytest.mark.netns
def test_without_root_it_ends_in_4(installed: Box) -> None:
    assert installed.sentryfw("export", as_root=False).returncode == 4


def test_a_broken_ledger_keeps_no_address_from_being_exported(blocked: FakeHost) -> None:
    ledger = blocked.settings.paths.ledger
    away = ledger.rename(ledger.with_suffix(".away"))
    ledger.write_bytes(b"no database" * 1000)
    try:
        done = blocked.sentryfw("export")
    finally:
        away.rename(ledger)
    assert done.returncode == 0
    assert FOUR in done.stdout.splitlines()
    assert done.stderr.count("the ledger cannot be read") == 1
