"""Evidence on ports that become listed is void: the rest of it is weighed again."""

import pytest

from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.model import Block, Kind, Seen, Source, Target, parse_source
from sentryfw.engine.revision import KEPT_S, MAX_BLOCKS_KEPT, Revision, is_void
from support import forge
from support.transcript import A6, HOST, HOST6, A, B, Scenario, scenario

TCP, UDP = 6, 17
LATER = 20.0
"""Clock value at which the sockets of these tests are seen first."""


def _places(*ports: int, protocol: int = TCP, at: float = LATER) -> dict[Target, float]:
    """Return listeners at every address of both families."""
    return {(bytes(size), protocol, port): at for port in ports for size in (4, 16)}


def _blocked(run: Scenario) -> tuple[Revision, Block]:
    revision = Revision(run.engine)
    [block] = run.outcomes[-1].blocks
    revision.remember(block)
    return revision, block


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_block_on_services_that_start_later_does_not_stand(source: str) -> None:
    run = scenario().syn(source, 993, 587, 443)
    revision, block = _blocked(run)
    assert revision.listed(_places(993), LATER) == [block]
    assert len(revision) == 0
    assert revision.listed(_places(993), LATER) == []


@pytest.mark.parametrize(
    ("ports", "listed", "stands"),
    [
        ((993, 587, 443), (), True),
        ((993, 587, 443), (8080, 25), True),
        ((993, 587, 443), (443,), False),
        ((993, 587, 443), (993, 587, 443), False),
    ],
    ids=["none", "others", "one", "all"],
)
def test_the_rest_is_weighed_by_the_trigger(
    ports: tuple[int, ...], listed: tuple[int, ...], *, stands: bool
) -> None:
    revision, block = _blocked(scenario().syn(A, *ports))
    assert revision.listed(_places(*listed), LATER) == ([] if stands else [block])


def test_a_scanner_that_hit_such_a_port_and_others_stays_blocked() -> None:
    """Its other targets are a scan by themselves."""
    run = scenario(trigger=6).syn(A, 993, 1, 2, 3, 4)
    revision = Revision(run.engine)
    run.syn(A, 5)
    [block] = run.outcomes[-1].blocks
    wider = block._replace(
        evidence=block.evidence._replace(
            trace=(*block.evidence.trace, Seen((forge.packed(HOST), TCP, 6), 0.0, "syn", False))
        )
    )
    revision.remember(wider)
    assert revision.listed(_places(993), LATER) == []
    assert len(revision) == 1


def test_what_is_left_counts_on_and_the_offence_does_not() -> None:
    run = scenario().syn(A, 993, 587, 443)
    revision, block = _blocked(run)
    places = _places(993)
    assert revision.listed(places, LATER) == [block]
    run.engine.release(block.source)
    revision.end(block, places)
    state = run.engine.tracker.get(block.source)
    assert state is not None
    assert [target[2] for target in state.targets] == [587, 443]
    run.at(30.0).syn(A, 8081)  # a third port without a service
    [again] = run.outcomes[-1].blocks
    assert again.offence == 1


@pytest.mark.parametrize("kind", ["null", "fin", "xmas", "synfin", "badflags", "connect", "icmp"])
def test_evidence_that_does_not_depend_on_a_socket_stays(kind: Kind) -> None:
    """The ruleset judges such packets at listed ports, too."""
    target = (forge.packed(HOST), TCP, 443)
    assert not is_void(Seen(target, 0.0, kind, False), _places(443))
    assert is_void(Seen(target, 0.0, "syn", False), _places(443))


def test_evidence_at_listed_ports_stays() -> None:
    target = (forge.packed(HOST), TCP, 443)
    assert not is_void(Seen(target, 0.0, "syn", True), _places(443))


def test_a_socket_that_was_there_before_explains_nothing() -> None:
    target = (forge.packed(HOST), TCP, 443)
    assert not is_void(Seen(target, LATER + 1, "syn", False), _places(443))


@pytest.mark.parametrize(
    ("host", "place", "void"),
    [
        (HOST, (bytes(4), TCP, 443), True),
        (HOST, (forge.packed(HOST), TCP, 443), True),
        (HOST, (forge.packed("192.0.2.99"), TCP, 443), False),
        (HOST, (forge.packed("127.0.0.1"), TCP, 443), False),
        (HOST, (bytes(16), TCP, 443), False),
        (HOST, (bytes(4), UDP, 443), False),
        (HOST, (bytes(4), TCP, 444), False),
        (HOST6, (bytes(16), TCP, 443), True),
        (HOST6, (bytes(4), TCP, 443), False),
    ],
)
def test_a_socket_explains_its_address_protocol_and_port(
    host: str, place: Target, *, void: bool
) -> None:
    target = (forge.packed(host), TCP, 443)
    assert is_void(Seen(target, 0.0, "syn", False), {place: LATER}) is void


@pytest.mark.parametrize("hits", [2, 6])
def test_where_probes_count_a_share_of_them_is_left(hits: int) -> None:
    run = scenario(trigger=3, repeats=True).syn(A, 993, 587, 443)
    revision, block = _blocked(run)
    evidence = block.evidence._replace(score=hits / 2)
    revision.remember(block._replace(evidence=evidence))
    assert len(revision.listed(_places(993), LATER)) == (hits == 2)


def test_a_member_of_a_distributed_scan_needs_two_targets() -> None:
    revision, block = _blocked(scenario().syn(A, 993, 587, 443))
    evidence = block.evidence._replace(scan="distributed-scan")
    revision.remember(block._replace(evidence=evidence))
    assert revision.listed(_places(993), LATER) == []
    assert len(revision.listed(_places(993, 587), LATER)) == 1


def test_void_targets_of_sources_below_the_trigger_are_removed() -> None:
    run = scenario().syn(A, 993, 22).syn(B, 993)
    tracker = run.engine.tracker
    pairs = list(zip(*tracker.everything(), strict=True))
    assert Revision(run.engine).void_pending(pairs, _places(993), tracker) == 2
    left = tracker.get(parse_source(A))
    assert left is not None
    assert [target[2] for target in left.targets] == [22]
    assert tracker.get(parse_source(B)) is None


def test_blocks_that_ended_otherwise_are_forgotten() -> None:
    revision, block = _blocked(scenario().syn(A, 993, 587, 443))
    revision.forget(parse_source(B))
    assert len(revision) == 1
    revision.forget(block.source)
    assert len(revision) == 0
    revision.remember(block)
    revision.forget(None)
    assert len(revision) == 0


def test_memory_is_bounded_in_time_and_number() -> None:
    revision, block = _blocked(scenario().syn(A, 993, 587, 443))
    assert revision.listed(_places(993), LATER + KEPT_S + 1) == []
    for number in range(MAX_BLOCKS_KEPT + 10):
        revision.remember(block._replace(source=Source(number.to_bytes(4))))
    assert len(revision) == MAX_BLOCKS_KEPT


def test_blocks_of_sources_inside_are_weighed_by_their_triggers() -> None:
    run = scenario()
    engine = run.engine
    default = ZoneRules("", (), engine.tracker.horizons, engine.decider.policy)
    horizons = default.horizons._replace(trigger=2)
    inside = ZoneRules("inside", ("lan*",), horizons, default.policy, is_inside=True)
    engine.zones.use((default, inside))
    revision, block = _blocked(run.syn(A, 993, 587, 443))
    assert block.evidence.inside is False
    evidence = block.evidence._replace(zone="inside")
    revision.remember(block._replace(evidence=evidence))
    assert revision.listed(_places(993), LATER) == []  # two are left, which is a scan inside
