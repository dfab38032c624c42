"""The responder: which reactions get an incident, when a block ends, and that none waits."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.respond import Respond
from sentryfw.engine.model import Block, Evidence, Kind, Probe, Refusal, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY, NO_NETWORKS
from sentryfw.record.records import Located, Named
from sentryfw.respond import mirrored_blocks
from sentryfw.respond import responder as module
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.responder import Callbacks, Responder
from sentryfw.respond.webhook import sender
from sentryfw.respond.webhook.post import Posted
from sentryfw.tools.drill.namespace import Namespace
from support.forge import networks, packed
from support.processes import below
from support.reactions import Results, SilentServer
from support.waiting import wait_for, wait_for_text

A = "198.18.0.2"


def _evidence(address: str, kind: Kind = "syn") -> Evidence:
    source = parse_source(address, LINK_LOCAL_ONLY)
    target = (packed("198.18.0.1"), 6, 111)
    return Evidence(
        source=source, targets=3, probes=3, kinds=(kind,), first_seen=0.0, last_seen=1.0,
        score=1.0, slow_score=0.1, scan="portscan", sample=(target,),
        last=Probe(source, target, kind), address=packed(address),
    )  # fmt: skip


def _block(address: str = A, timeout: float = 3600.0) -> Block:
    evidence = _evidence(address)
    return Block(
        source=evidence.source, timeout=timeout, offence=1, forgeable=True, reason="why",
        evidence=evidence, at=1.0,
    )  # fmt: skip


def _refusal(reason: str, address: str = A) -> Refusal:
    evidence = _evidence(address)
    return Refusal(evidence.source, reason, evidence, 1.0)


class Host:
    """The daemon's side: results, names, and the sources that the kernel blocks."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.blocked: set[str] = set()
        self.learnt: list[Named | Located] = []

    def hooks(self) -> Callbacks:
        return Callbacks(self.results, self.learnt.append, lambda text: text in self.blocked)


Make = Callable[..., Responder]


@pytest.fixture
def host(results: Results) -> Host:
    return Host(results)


@pytest.fixture
def make(host: Host, namespace: Namespace) -> Iterator[Make]:
    """Return a function that makes responders in the namespace, and starts them by default."""
    made: list[Responder] = []

    def start(settings: dict[str, Any], *never_block: str, running: bool = True) -> Responder:
        protected = networks(*never_block)
        made.append(Responder(Respond.model_validate(settings), host.hooks(), protected))
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
    return HostsDenyFile(path, "ALL: {address}").lines()


def _hand_over(responder: Responder, decision: Block | Refusal, **options: Any) -> None:
    now = time.monotonic()
    responder.hand_over(decision, now, time.time() - now, **options)


def test_a_responder_without_reactions_has_no_thread(make: Make) -> None:
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
                "command": {"argv": ["/bin/sleep", "60.2"], "timeout": 60},
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
        for part in responder._reactions.parts:
            for thread in getattr(part, "_threads", ()):
                thread.join(5)
        assert not [child for child in below(os.getpid()) if child.words[1:2] == ["60.2"]]


def test_a_full_backlog_is_reported(
    make: Make, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 3)
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
        wait_for_text(path, "it runs before")
    _hand_over(responder, _block())
    wait_for(lambda: responder.status()["command"]["done"] == 1, "it ran")
    _hand_over(responder, _refusal("command"))
    wait_for(lambda: responder.status()["command"]["done"] == 2, "and for the refusal")
    assert path.read_text().splitlines() == [f"blocked {A}", f"refused {A}"]


@pytest.mark.parametrize("reason", ["partner", "observe", "never_block", "flood"])
def test_the_command_is_not_run_for_other_refusals(make: Make, tmp_path: Path, reason: str) -> None:
    path = tmp_path / "said"
    responder = make(_touching(path))
    _hand_over(responder, _refusal(reason))
    _hand_over(responder, _block("198.18.0.3"))
    assert wait_for_text(path, "the block's").splitlines() == ["blocked 198.18.0.3"]


# --- reactions that last as long as the block


def test_a_line_ends_with_its_block(
    make: Make, host: Host, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrored_blocks, "END_DELAY_S", 0.0)
    responder = make(_deny(deny))
    _hand_over(responder, _block(timeout=0.3))
    wait_for(lambda: _lines(deny) == [f"ALL: {A}"], "the line")
    wait_for(lambda: _lines(deny) == [], "no line")
    wait_for(lambda: len(host.results) == 2, "both results")
    assert [(r.detail, r.ok) for r in host.results] == [("added", True), ("removed", True)]


def test_a_block_that_was_made_longer_keeps_its_line(
    make: Make, host: Host, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrored_blocks, "END_DELAY_S", 0.0)
    monkeypatch.setattr(mirrored_blocks, "CHECK_INTERVAL_S", 0.3)
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
def test_a_never_block_address_is_not_affected_by_its_neighbour(
    make: Make, deny: Path, results: Results, address: str, never_block: str
) -> None:
    """nft accepts it before the block; a line for its /64 would refuse it."""
    responder = make(_deny(deny), never_block)
    _hand_over(responder, _block(address))
    failure = wait_for(results.failures, "said")[0]
    assert failure.detail == "covers addresses that are never blocked"
    assert _lines(deny) == []


def test_lines_at_the_start_are_those_of_active_blocks(make: Make, deny: Path) -> None:
    HostsDenyFile(deny, "ALL: {address}").apply({"198.18.0.9": True, A: True})
    responder = make(_deny(deny), "198.18.0.7/32", running=False)
    responder.restore({A: 100.0, "198.18.0.3": 0.0, "198.18.0.7": 50.0})
    responder.start()
    wait_for(lambda: _lines(deny) == [f"ALL: {A}", "ALL: 198.18.0.3"], "these and no others")


def test_a_restored_block_ends_at_its_time(
    make: Make, deny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrored_blocks, "END_DELAY_S", 0.0)
    responder = make(_deny(deny), running=False)
    responder.restore({A: 0.5, "198.18.0.3": 1000.0})
    responder.start()
    wait_for(lambda: len(_lines(deny)) == 2, "both")
    wait_for(lambda: _lines(deny) == ["ALL: 198.18.0.3"], "one ended")


# --- names


def test_a_silent_resolver_delays_a_line_by_at_most_its_timeout(
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


def test_urgent_events_of_the_daemon_reach_webhooks(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def post(**request: Any) -> Posted:
        sent.append(request["body"])
        return Posted("", 200)

    monkeypatch.setattr(sender, "post", post)
    table = {"webhook": [{"url": "https://push.example.org/", "shape": "ntfy"}]}
    callbacks = Callbacks(results, lambda _: None, lambda _: False)
    made = Responder(Respond.model_validate(table), callbacks, NO_NETWORKS)
    made.start()
    made.noted("start", {"version": "1"})
    made.noted("alarm", {"by": "ufw", "pid": 7})
    wait_for(lambda: results, "the result")
    made.stop()
    [body] = sent
    assert body.endswith("alarm: another program keeps changing the table (by ufw, pid 7)")
    assert (results[0].reaction, results[0].address, results[0].ok) == ("webhook", "", True)


def test_without_webhooks_events_of_the_daemon_do_not_wait(results: Results) -> None:
    callbacks = Callbacks(results, lambda _: None, lambda _: False)
    made = Responder(Respond(), callbacks, NO_NETWORKS)
    made.noted("alarm", {})
    assert made._inbox.empty()
