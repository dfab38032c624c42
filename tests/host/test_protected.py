"""The never-block sources of this host, and the warnings about its lists."""

import logging
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.host import protected
from sentryfw.tools.drill.namespace import Namespace, add_address

pytestmark = pytest.mark.netns


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text("192.0.2.1\nprinter\n198.51.100.7/24\n")
    return path


def _config(tmp_path: Path, path: Path) -> Config:
    text = f'[paths]\nstate = "{tmp_path}"\n[never_block]\nfiles = ["{path}"]\n'
    return parse(text.encode(), "test.toml")


def _warned_lines(caplog: pytest.LogCaptureFixture, config: Config) -> list[str]:
    """Read the lists again; return the lines that it warns about."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        protected.never_block(config)
    return [record.getMessage().split(": ")[0].rpartition(":")[2] for record in caplog.records]


def test_a_faulty_line_is_reported_once(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    assert _warned_lines(caplog, config) == ["2", "3"]
    assert _warned_lines(caplog, config) == []
    assert _warned_lines(caplog, config) == []


def test_only_a_new_fault_is_reported(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    _warned_lines(caplog, config)
    faulty.write_text(faulty.read_text() + "scanner\n")
    assert _warned_lines(caplog, config) == ["4"]


def test_a_fault_that_returns_is_reported_again(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    text = faulty.read_text()
    _warned_lines(caplog, config)
    faulty.write_text("192.0.2.1\n")
    assert _warned_lines(caplog, config) == []
    faulty.write_text(text)
    assert _warned_lines(caplog, config) == ["2", "3"]


def test_a_list_that_is_configured_no_more_takes_no_memory(tmp_path: Path, faulty: Path) -> None:
    protected.never_block(_config(tmp_path, faulty))
    other = tmp_path / "other"
    other.write_text("192.0.2.1\n")
    protected.never_block(_config(tmp_path, other))
    assert [*protected._read] == [other]


def test_each_list_has_its_own_faults(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _warned_lines(caplog, _config(tmp_path, faulty))
    other = tmp_path / "other"
    other.write_text(faulty.read_text())
    assert _warned_lines(caplog, _config(tmp_path, other)) == ["2", "3"]


# --- gateways

NEIGHBOUR: Final = "198.18.0.9"


@pytest.fixture
def wired(namespace: Namespace) -> Namespace:
    """A namespace with two ends of a wire, 198.18.0.1/24 at one of them."""
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    for name in ("lo", "veth0", "veth1"):
        namespace.ip("link", "set", name, "up")
    add_address(namespace, "veth0", "198.18.0.1/24")
    add_address(namespace, "veth0", "2001:2::1/64")
    return namespace


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["route add default via 198.18.0.9"], [NEIGHBOUR]),
        (["route add default via inet6 fe80::9 dev veth0"], ["fe80::9"]),
        (["-6 route add default via fe80::9 dev veth0"], ["fe80::9"]),
        (["route add 192.0.2.0/24 via 198.18.0.9"], [NEIGHBOUR]),
        (["route add 0.0.0.0/1 via 198.18.0.9", "route add 128.0.0.0/1 via 198.18.0.8"],
         [NEIGHBOUR, "198.18.0.8"]),
        (["route add default via 198.18.0.9 table 77"], [NEIGHBOUR]),
        (["-6 route add 2001:db8::/32 via 2001:2::9 table 4242"], ["2001:2::9"]),
        (["route add default nexthop via 198.18.0.9 dev veth0 nexthop via 198.18.0.8 dev veth0"],
         [NEIGHBOUR, "198.18.0.8"]),
        (["route add default nexthop via 198.18.0.9 dev veth0 nexthop via inet6 fe80::8 dev veth0"],
         [NEIGHBOUR, "fe80::8"]),
        (["-6 route add default nexthop via fe80::9 dev veth0 nexthop via fe80::8 dev veth0"],
         ["fe80::8", "fe80::9"]),
        (["nexthop add id 7 via 198.18.0.9 dev veth0", "nexthop add id 8 via fe80::8 dev veth0",
          "nexthop add id 9 group 7", "route add default nhid 9"], [NEIGHBOUR, "fe80::8"]),
        (["address add 198.18.5.1 peer 198.18.5.2 dev veth1", "route add default dev veth1"],
         ["198.18.5.2"]),
        (["address add 198.18.5.1 peer 198.18.5.2 dev veth1"], []),
        (["route add default dev veth0"], []),
        (["route add blackhole default", "route add unreachable 192.0.2.0/24"], []),
    ],
    ids=["default", "inet6", "ipv6", "of-a-network", "split-default", "other-table",
         "other-table-ipv6", "multipath", "multipath-inet6", "multipath-ipv6", "nexthop-objects",
         "point-to-point", "no-default", "on-link", "no-path"],
)  # fmt: skip
def test_every_next_hop_is_a_gateway(
    wired: Namespace, commands: list[str], expected: list[str]
) -> None:
    for command in commands:
        wired.ip(*command.split())
    assert sorted(map(str, wired.call(protected.gateways))) == sorted(expected)


def test_gateways_are_never_blocked_unless_that_is_off(wired: Namespace) -> None:
    wired.ip("route", "add", "default", "via", "inet6", "fe80::9", "dev", "veth0")
    for text, expected in (("", {"fe80::9/128": "gateway"}), ("gateways = false", {})):
        config = parse(f"[never_block]\n{text}".encode(), "test.toml")
        found = wired.call(lambda config=config: protected.never_block(config))
        assert {str(p.network): p.why for p in found if p.why == "gateway"} == expected


def test_a_list_is_parsed_again_if_its_bytes_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list"
    path.write_text("198.51.100.1\n")
    config = _config(tmp_path, path)
    status = path.stat()
    assert ip_network("198.51.100.1") in {item.network for item in protected.never_block(config)}
    with monkeypatch.context() as patch:
        patch.setattr(protected.address_list, "parse", None)
        assert ip_network("198.51.100.1") in {
            item.network for item in protected.never_block(config)
        }
    path.write_text("198.51.100.2\n")  # the same size and, by a program that sets it, the same time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = {item.network for item in protected.never_block(config)}
    assert ip_network("198.51.100.2") in found
    assert ip_network("198.51.100.1") not in found
