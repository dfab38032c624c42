"""Services without a plain socket and port knocking, and the lines that doctor proposes."""

import json
import tomllib
from pathlib import Path

import pytest

from sentryfw.config import parse
from sentryfw.query.neighbours import HiddenService, find, ipvs, knockd_runs, knocking, sctp
from sentryfw.tools.drill.namespace import Namespace

IPVS = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C6120001:0050 rr
  -> C6120102:0050      Masq    1      0          0
UDP  C6120001:0035 wlc ops
TCP  [2001:0002:0000:0000:0000:0000:0000:0001]:01BB rr
FWM  00000007 rr
"""
EPS = """ ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
ffff0001 ffff0002 2   10  29   3868  0 23456 198.18.0.1 2001:2::1
ffff0003 ffff0004 2   7   30   5000  0 23457 198.18.0.1
ffff0005 ffff0006 2   10  31   6000  0 23458 127.0.0.1
"""
KNOCKING = """
table inet knock {
    set first { type ipv4_addr; flags timeout; }
    set open { type ipv4_addr; flags timeout; }
    chain input {
        type filter hook input priority 0;
        tcp dport 7000 add @first { ip saddr timeout 10s }
        tcp dport { 8000, 8001 } ip saddr @first update @open { ip saddr timeout 1m }
        udp dport 9000 update @open { ip saddr timeout 1m }
        tcp dport 22 ip saddr @open accept
        tcp dport 25 counter
        tcp dport != 443 add @first { ip saddr timeout 10s }
    }
}
table inet sentryfw {
    set first { type ipv4_addr; flags timeout; }
    chain c { tcp dport 1234 add @first { ip saddr timeout 10s }; }
}
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net" / "sctp").mkdir(parents=True)
    (tmp_path / "net" / "ip_vs").write_text(IPVS)
    (tmp_path / "net" / "sctp" / "eps").write_text(EPS)
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "comm").write_text("knockd\n")
    return tmp_path


def _details(text: str, proc: Path, ruleset: str = "") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in find(parse(text.encode(), "test.toml"), ruleset, proc):
        found.setdefault(item.check, []).append(item.detail)
    return found


def test_virtual_services_of_ipvs_are_found(proc: Path) -> None:
    assert list(ipvs(proc)) == [
        HiddenService("tcp", 80),
        HiddenService("udp", 53),
        HiddenService("tcp", 443),
    ]


def test_listening_endpoints_of_sctp_are_found(proc: Path) -> None:
    assert list(sctp(proc)) == [HiddenService("sctp", 3868)]


def test_knockd_is_found_by_its_name(proc: Path, tmp_path: Path) -> None:
    assert knockd_runs(proc)
    (proc / "17" / "comm").write_text("sshd\n")
    assert not knockd_runs(tmp_path)


@pytest.mark.netns
def test_ports_of_knocking_rules_are_found(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "rules.nft"
    path.write_text(KNOCKING)
    done = namespace.run("nft", "-f", str(path))
    assert done.returncode == 0, done.stderr
    found = set(knocking(namespace.run("nft", "-j", "list", "ruleset").stdout))
    assert set(map(tuple, found)) == {("tcp", 7000), ("tcp", 8000), ("tcp", 8001), ("udp", 9000)}


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '{"nftables": [1, {"rule": {}}]}', '{"other": 1}']
)
def test_a_ruleset_that_cannot_be_read_has_no_findings(text: str) -> None:
    assert list(knocking(text)) == []


def test_each_line_is_valid_and_ends_its_warning(proc: Path) -> None:
    found = _details("", proc)
    assert found.keys() == {"ipvs", "sctp", "knockd"}
    keys: dict[str, list[int]] = {}
    for details in found.values():
        for detail in details:
            line = detail.rpartition(": ")[2]
            [(key, ports)] = tomllib.loads(line)["watch"].items()
            keys.setdefault(key, []).extend(ports)
    text = "[watch]\n" + "\n".join(f"{key} = {json.dumps(ports)}" for key, ports in keys.items())
    assert _details(text, proc).keys() == {"knockd"}  # its ports are not known


def test_a_range_covers_its_ports(proc: Path) -> None:
    text = '[watch]\nlisted_tcp = ["1-1024"]\nlisted_udp = [53]\nlisted_sctp = [3868]'
    assert _details(text, proc).keys() == {"knockd"}


def test_a_host_without_them_is_not_warned(tmp_path: Path) -> None:
    assert _details("", tmp_path) == {}
