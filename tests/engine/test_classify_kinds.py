"""Transcripts: protocols beside TCP and UDP, and half-open connections."""

import pytest

from sentryfw.engine.model import ACCEPT, Probe, parse_source
from support import forge
from support.transcript import A6, HOST, HOST6, A, B, scenario

INIT = 1
COOKIE_ECHO = 10


# --- half-open connections to listed ports


def test_resets_of_thirty_two_listed_ports_are_a_scan() -> None:
    run = scenario().at(0.0).half_open(A, *range(1, 32)).expect_counted_and_accepted()
    run.half_open(A, 32).expect_block(A)
    assert (run.block.evidence.targets, run.block.evidence.kinds) == (32, ("rst",))
    assert run.block.forgeable


def test_a_reset_of_a_decoy_port_is_half_a_target() -> None:
    """No health check goes there."""
    run = scenario(decoys=frozenset(range(1, 7))).half_open(A, 1, 2, 3, 4, 5)
    run.expect_counted_and_accepted().half_open(A, 6).expect_block(A)
    assert run.block.evidence.kinds == ("syn",)


def test_resets_and_unlisted_probes_add_up() -> None:
    run = scenario().half_open(A, *range(100, 111)).syn(A, 1).expect_counted()
    run.syn(A, 2).expect_block(A)


# --- health checks


@pytest.mark.parametrize("ports", [6, 31])
def test_a_balancer_that_resets_its_checks_is_not_blocked(ports: int) -> None:
    run = scenario()
    for second in range(0, 3600, 2):
        run.at(float(second)).half_open(A, *range(8000, 8000 + ports))
    run.expect_no_block()


def test_a_balancer_may_find_two_of_its_services_down() -> None:
    """Their ports are unlisted then. Those that are up weigh nothing, once checked twice."""
    up, down = range(8000, 8020), (8020, 8021)
    run = scenario()
    for second in range(0, 60, 2):
        run.at(float(second)).half_open(A, *up)
        if second >= 4:
            run.syn(A, *down)
    run.expect_no_block()
    run.syn(A, 8022).expect_block(A)  # unlisted ones always count


def test_a_scanner_that_repeats_its_round_is_found_by_the_next_ports() -> None:
    run = scenario()
    for second, first in ((0.0, 1), (2.0, 1), (4.0, 11), (6.0, 11)):
        run.at(second).half_open(A, *range(first, first + 10)).expect_no_block()
    run.at(8.0).half_open(A, *range(21, 32)).expect_no_block()
    run.half_open(A, 32).expect_block(A)


def test_a_second_check_within_the_second_is_not_a_round() -> None:
    run = scenario().at(0.0).half_open(A, *range(100, 111))
    run.at(0.5).half_open(A, *range(100, 111)).syn(A, 1, 2).expect_block(A)


def test_half_open_connections_to_one_port_are_one_target() -> None:
    run = scenario()
    for second in range(100):
        run.at(float(second)).half_open(A, 443)
    run.expect(ACCEPT, "pass").expect_no_block()


def test_a_target_weighs_as_much_as_its_heaviest_probe() -> None:
    """The port was listed at the first probe, and is not at the second."""
    run = scenario().half_open(A, 1, 2, 3).syn(A, 1, 2).expect_dropped()
    run.syn(A, 3).expect_block(A)


def test_a_partner_s_half_open_connections_are_refused_as_evidence() -> None:
    run = scenario(confine=False).partner(A).half_open(A, *range(1, 33))
    run.expect_refusal(A, "partner").expect(ACCEPT, "refuse")


# --- ICMP


def test_a_ping_is_counted_and_accepted() -> None:
    run = scenario().icmp(A, 8).expect_counted_and_accepted()
    for second in range(1, 200):
        run.at(float(second)).icmp(A, 8).expect(ACCEPT, "pass")


def test_pings_of_many_addresses_are_a_sweep() -> None:
    hosts = [f"192.0.2.{number}" for number in range(1, 11)]
    run = scenario().icmp(A, 8, *hosts[:9]).expect_counted_and_accepted()
    run.icmp(A, 8, hosts[9]).expect_block(A)
    assert (run.block.evidence.scan, run.block.evidence.kinds) == ("portsweep", ("icmp",))


def test_pings_of_many_ipv6_addresses_are_a_sweep() -> None:
    hosts = [f"2001:db8:ffff::{number:x}" for number in range(1, 11)]
    run = scenario().icmp(A6, 128, *hosts).expect_block(A6)
    assert run.block.evidence.scan == "portsweep"


def test_all_requests_to_one_host_are_not_a_sweep() -> None:
    run = scenario()
    for kind in (8, 13, 15, 17):
        run.icmp(A, kind).expect_counted_and_accepted()


def test_a_ping_before_a_scan_weighs_a_tenth() -> None:
    """nmap pings first: echo, timestamp; neither makes the scan end sooner than its trigger."""
    run = scenario().icmp(A, 8).icmp(A, 13).syn(A, 1, 2).expect_counted()
    run.syn(A, 3).expect_block(A)
    assert run.block.evidence.kinds == ("icmp", "syn")


# --- SCTP


@pytest.mark.parametrize(
    ("chunk", "kind"), [(INIT, "sctp-init"), (COOKIE_ECHO, "sctp-cookie-echo")]
)
def test_an_sctp_scan_is_blocked_at_its_trigger(chunk: int, kind: str) -> None:
    run = scenario().sctp(A, chunk, 1, 2).expect_counted_and_accepted().sctp(A, chunk, 3)
    run.expect_block(A)
    assert run.block.evidence.kinds == (kind,)


@pytest.mark.parametrize("chunk", [0, 2, 3, 5, 6, 7, 8, 9, 11, 14])
def test_other_sctp_packets_are_answers_and_not_evidence(chunk: int) -> None:
    run = scenario()
    for port in range(1, 50):
        run.sctp(A, chunk, port).expect_accepted()
    assert run.engine.counters.strays["backscatter"] == 49


# --- other protocols


def test_packets_of_many_protocols_are_a_protocol_scan() -> None:
    run = scenario().protocol(A, 3).expect_counted_and_accepted()
    run.protocol(A, 9).expect_counted_and_accepted().protocol(A, 253).expect_block(A)
    assert (run.block.evidence.scan, run.block.evidence.kinds) == ("protocol-scan", ("protocol",))
    assert [target[1:] for target in run.block.evidence.sample] == [(3, 0), (9, 0), (253, 0)]


def test_a_repeated_protocol_is_one_target() -> None:
    run = scenario()
    for second in range(1000):
        run.at(float(second)).protocol(A, 253)
    run.expect(ACCEPT, "pass").expect_no_block()


def test_a_port_scan_with_an_odd_protocol_in_it_is_a_port_scan() -> None:
    run = scenario(trigger=5).protocol(A, 253).syn(A, 1, 2, 3, 4).expect_block(A)
    assert run.block.evidence.scan == "portscan"


def test_a_hidden_transport_blocks_like_any_packet_that_no_stack_sends() -> None:
    chain = ((60, bytes([0, 1, 4, 0, 0, 0, 0])),) * 40
    probe = forge.ipv6(A6, HOST6, forge.TCP, forge.tcp(22), chain=chain)
    run = scenario().send(probe).expect_counted()
    run.send(probe).expect_block(A6)  # its port is not visible: each may be another one
    assert run.block.evidence.kinds == ("badflags",)


# --- evidence for the ledger


def test_a_new_target_below_the_trigger_goes_into_the_ledger() -> None:
    run = scenario().syn(A, 23)
    target = (forge.packed(HOST), 6, 23)
    assert run.outcomes[-1].probe == Probe(parse_source(A), target, "syn")
    run.half_open(A, 80)
    assert run.outcomes[-1].probe == Probe(parse_source(A), (target[0], 6, 80), "rst", listed=True)


def test_known_targets_and_strays_do_not_go_into_the_ledger() -> None:
    run = scenario(listed={22}).syn(A, 23).syn(A, 23)
    assert run.outcomes[-1].probe is None
    for stray in (run.tcp(B, "SA", 1), run.syn(B, 22), run.send(b""), run.icmp(B, 0)):
        assert stray.outcomes[-1].probe is None
    assert run.syn(A, 24).outcomes[-1].probe is not None
    assert run.syn(A, 25).expect_block(A).outcomes[-1].probe is None
