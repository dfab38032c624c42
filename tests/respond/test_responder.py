"""The responder: who is told what, when a block ends, and nobody waits."""

import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config_respond import Respond
from sentryfw.engine.model import Block, Evidence, Kind, Probe, Refusal, parse_source
from sentryfw.netns import Namespace
from sentryfw.respond import responder as module
from sentryfw.respond.hosts_deny import HostsDeny
from sentryfw.respond.responder import Hooks, Responder
from support.forge import packed
from support.reactions import Results, SilentServer
from support.waiting import wait_for

A = "198.18.0.2"


def _evidence(address: str, kind: Kind = "syn") -> Evidence:
    source = parse_source(address)
    target = (packed("198.18.0.1"), 6, 111)
    return Evidence(
        source, 3, 3, (kind,), 0.0, 1.0, 1.0, 0.1, "portscan", (target,),
        last=Probe(source, target, kind), address=packed(address),
    )  # fmt: skip


def _block(address: str = A, timeout: float = 3600.0) -> Block:
    evidence = _evidence(address)
    return Block(evidence.source, timeout, 1, True, "why", evidence, 1.0)


def _refusal(reason: str, address: str = A) -> Refusal:
    evidence = _evidence(address)
    return Refusal(evidence.source, reason, evidence, 1.0)


class Host:
    """What the responder asks and tells."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.blocked: set[str] = set()
        self.names: list[tuple[str, str]] = []

    def hooks(self) -> Hooks:
        return Hooks(
            self.results, lambda *name: self.names.append(name), lambda text: text in self.blocked
        )


Make = Callable[..., Responder]


@pytest.fixture
def host(results: Results) -> Host:
    return Host(results)


@pytest.fixture
def make(host: Host, namespace: Namespace) -> Iterator[Make]:
    """Responders inside the namespace; started unless told otherwise."""
    made: list[Responder] = []

    def start(settings: dict[str, Any], *never_block: str, running: bool = True) -> Responder:
        networks = [ip_network(text) for text in never_block]
        made.append(Responder(Respond.model_validate(settings), host.hooks(), networks))
        if running:
            namespace.call(made[-1].start)
        return made[-1]

    yield start
    for responder in made:
        responder.stop()


@pytest.fixture
def deny(tmp_path: Path) -> Path:
    return tmp_path / "hosts.deny"


def _deny(path: Path) -> dict[str, Any]:
    return {"hosts_deny": {"enabled": True, "path": str(path)}}


def _lines(path: Path) -> list[str]:
    return HostsDeny(path, "ALL: {address}").lines()


def _hand_over(responder: Responder, decision: Block | Refusal, **options: Any) -> None:
    now = time.monotonic()
    responder.hand_over(decision, now, time.time() - now, **options)


def test_nothing_configured_is_no_thread(make: Make) -> None:
    before = threading.active_count()
    responder = make({})
    _hand_over(responder, _block())
    assert not responder.is_needed
    assert threading.active_count() == before
    assert responder.status() == {}
    assert responder._inbox.qsize() == 0


def test_handing_over_takes_no_time_while_everything_hangs(
    make: Make, namespace: Namespace, tmp_path: Path
) -> None:
    with SilentServer(namespace) as server:
        responder = make(
            {
                "command": {"argv": ["/bin/sleep", "60"], "timeout": 60},
                "mail": {"to": ["a@example.org"], "host": "127.0.0.1", "port": server.port},
                "syslog": {"host": "127.0.0.1", "port": server.port, "transport": "tcp"},
                "history": {"format": "portsentry1", "path": str(tmp_path / "history")},
            }
        )
        begin = time.process_time()
        for number in range(2000):
            _hand_over(responder, _block(f"198.18.{number >> 8}.{number & 255}"))
        assert time.process_time() - begin < 2
        wait_for(lambda: responder._inbox.qsize() == 0, "dealt out", 20)
        waiting = {name: part["waiting"] for name, part in responder.status().items()}
        assert waiting["command"] <= 1000
        begin = time.monotonic()
        responder.stop()
        assert time.monotonic() - begin < 1


def test_a_backlog_that_is_full_is_said(
    make: Make, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 3)
    responder = make(_deny(tmp_path / "hosts.deny"), running=False)
    for _ in range(10):
        _hand_over(responder, _block())
    assert responder._inbox.qsize() == 3
    assert [r.detail for r in results] == ["3 decisions wait: no reactions to more"]


# --- the command


def _touching(path: Path, when: str = "after") -> dict[str, Any]:
    argv = ["/bin/sh", "-c", f"echo {{action}} {{ip}} >> {path}"]
    return {"command": {"argv": argv, "when": when, "concurrency": 1}}


@pytest.mark.parametrize("when", ["after", "before"])
def test_the_command_runs_once_for_a_block(make: Make, tmp_path: Path, when: str) -> None:
    path = tmp_path / "said"
    responder = make(_touching(path, when))
    assert responder.wants_before == (when == "before")
    if responder.wants_before:
        _hand_over(responder, _block(), is_before=True)
        wait_for(path.exists, "it runs before")
    _hand_over(responder, _block())
    wait_for(lambda: responder.status()["command"]["done"] == 1, "it ran")
    _hand_over(responder, _refusal("command"))
    wait_for(lambda: responder.status()["command"]["done"] == 2, "and for the refusal")
    assert path.read_text().splitlines() == [f"blocked {A}", f"refused {A}"]


@pytest.mark.parametrize("reason", ["partner", "observe", "never_block", "flood"])
def test_the_command_is_not_run_for_who_is_spared(make: Make, tmp_path: Path, reason: str) -> None:
    path = tmp_path / "said"
    responder = make(_touching(path))
    _hand_over(responder, _refusal(reason))
    _hand_over(responder, _block("198.18.0.3"))
    wait_for(path.exists, "the block's")
    assert path.read_text().splitlines() == ["blocked 198.18.0.3"]


# --- what lasts as long as the block


def test_a_line_ends_with_its_block(
    make: Make, host: Host, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLACK", 0.0)
    responder = make(_deny(deny))
    _hand_over(responder, _block(timeout=0.3))
    wait_for(lambda: _lines(deny) == [f"ALL: {A}"], "the line")
    wait_for(lambda: _lines(deny) == [], "no line")
    wait_for(lambda: len(host.results) == 2, "both results")
    assert [(r.detail, r.ok) for r in host.results] == [("added", True), ("removed", True)]


def test_a_block_that_was_made_longer_keeps_its_line(
    make: Make, host: Host, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLACK", 0.0)
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.3)
    host.blocked = {A}
    asked: list[str] = []
    hooks = host.hooks()._replace(
        is_blocked=lambda text: (asked.append(text), A in host.blocked)[1]
    )
    monkeypatch.setattr(host, "hooks", lambda: hooks)
    responder = make(_deny(deny))
    _hand_over(responder, _block(timeout=0.2))
    wait_for(lambda: len(asked) >= 2, "the kernel was asked")
    assert _lines(deny) == [f"ALL: {A}"]
    host.blocked.clear()
    wait_for(lambda: _lines(deny) == [], "no line")


def test_unblocking_removes_line_and_route(make: Make, deny: Path, namespace: Namespace) -> None:
    responder = make({**_deny(deny), "route": {"enabled": True}})

    def routes() -> str:
        return namespace.ip("route", "show", "proto", "83") + namespace.ip(
            "-6", "route", "show", "proto", "83"
        )

    for address in (A, "198.18.0.3", "2001:2:0:1::2"):
        _hand_over(responder, _block(address))
    wait_for(lambda: len(_lines(deny)) == 3 and routes().count("blackhole") == 3, "all there")
    responder.ended(A)
    wait_for(lambda: len(_lines(deny)) == 2 and A not in routes(), "one gone")
    responder.ended(None)
    wait_for(lambda: not _lines(deny) and not routes(), "all gone")


def test_a_block_by_hand_has_a_line(make: Make, deny: Path) -> None:
    responder = make(_deny(deny))
    responder.began("2001:2:0:1::/64", 0.0)
    wait_for(lambda: _lines(deny) == ["ALL: [2001:2:0:1::]/64"], "the line")


@pytest.mark.parametrize(
    ("address", "never_block"),
    [(A, "198.18.0.0/24"), ("2001:2:0:1::77", "2001:2:0:1::1/128")],
    ids=["within-a-network", "the-gateway-is-in-the-same-64"],
)
def test_who_is_never_blocked_is_not_shut_out_by_a_neighbour(
    make: Make, deny: Path, results: Results, address: str, never_block: str
) -> None:
    """nft lets it past the block; a line for its /64 would not."""
    responder = make(_deny(deny), never_block)
    _hand_over(responder, _block(address))
    failure = wait_for(results.failures, "said")[0]
    assert failure.detail == f"covers {never_block}, which is never blocked"
    assert _lines(deny) == []


def test_at_the_start_lines_are_those_of_live_blocks(make: Make, deny: Path) -> None:
    HostsDeny(deny, "ALL: {address}").apply({"198.18.0.9": True, A: True})
    responder = make(_deny(deny), "198.18.0.7/32", running=False)
    responder.restore({A: 100.0, "198.18.0.3": 0.0, "198.18.0.7": 50.0})
    responder.start()
    wait_for(lambda: _lines(deny) == [f"ALL: {A}", "ALL: 198.18.0.3"], "these and no others")


def test_a_restored_block_ends_in_its_time(
    make: Make, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLACK", 0.0)
    responder = make(_deny(deny), running=False)
    responder.restore({A: 0.5, "198.18.0.3": 1000.0})
    responder.start()
    wait_for(lambda: len(_lines(deny)) == 2, "both")
    wait_for(lambda: _lines(deny) == ["ALL: 198.18.0.3"], "one ended")


# --- names


def test_a_resolver_that_says_nothing_delays_a_line_by_its_timeout_at_most(
    make: Make, namespace: Namespace, results: Results, tmp_path: Path
) -> None:
    path = tmp_path / "history"
    responder = make(
        {
            "dns": {"enabled": True, "servers": ["127.0.0.1"], "port": 1, "timeout": 0.4},
            "history": {"format": "portsentry1", "path": str(path)},
        }
    )
    begin = time.monotonic()
    for number in range(300):  # more than may wait for a name
        _hand_over(responder, _block(f"198.18.1.{number % 250}"))
    wait_for(lambda: path.exists() and path.read_text().count("\n") == 300, "every line")
    assert time.monotonic() - begin < 4
    assert [failure.reaction for failure in results.failures()][:1] == ["dns"]
