"""Two firewalls share blocks over a pipe: the kernel's sets, a crash, a withdraw."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network

import pytest

from kernel.conftest import StartDaemon
from sentryfw.control.client import ask_stream
from sentryfw.engine.model import parse_source
from sentryfw.fleet.entry import Entry, Operation, Proof
from sentryfw.fleet.signature import Signer
from support.box import Box
from support.host import environment
from support.lab import ATTACKER, BYSTANDER, Lab, Sentry
from support.waiting import wait_for

pytestmark = pytest.mark.netns

SCANNER, OTHER = "192.0.2.7", "192.0.2.8"


class Pair:
    """Two firewalls, each a member of the other's fleet."""

    def __init__(self, stack: ExitStack) -> None:
        self.boxes = {name: stack.enter_context(Box()) for name in ("fw1", "fw2")}
        keys = {name: self.ask(name, "key").strip() for name in self.boxes}
        for name, box in self.boxes.items():
            [other] = self.boxes.keys() - {name}
            with box.config.open("a") as file:
                file.write(
                    f'\n[fleet]\nname = "{name}"\n[fleet.members.{other}]\n'
                    f'key = "{keys[other]}"\ntrust = "full"\n'
                )
            box.install()
        self.daemons = {name: box.start_daemon() for name, box in self.boxes.items()}
        for daemon in self.daemons.values():
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)

    def ask(self, name: str, *words: str, given: str = "") -> str:
        """Run `sentryfw fleet`; `given` is the text on its standard input."""
        box = self.boxes[name]
        lines = box.home / "entries.json"
        lines.write_text(given)
        words = ("-c", str(box.config), "fleet", *words)
        done = box.namespace.run(
            "sh",
            "-c",
            'file=$1; shift; exec "$@" < "$file"',
            "sh",
            lines,
            *box.launch(*words),
            env=environment(None),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def share(self, sender: str, receiver: str) -> dict[str, int]:
        """Carry all entries of one to the other; return their effects there."""
        lines = self.ask(sender, "send")
        counts: dict[str, int] = json.loads(self.ask(receiver, "receive", "--json", given=lines))
        return counts

    def fleet(self, name: str) -> set[str]:
        """Return what other members block at a firewall, in its kernel."""
        return {*self.boxes[name].elements("fleet4"), *self.boxes[name].elements("fleet6")}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def test_two_firewalls_share_blocks_and_their_ends(pair: Pair) -> None:
    one, two = pair.boxes["fw1"], pair.boxes["fw2"]
    assert one.sentryfw("block", SCANNER, "2001:db8:7::/64", OTHER).returncode == 0
    assert pair.share("fw1", "fw2") == {"block": 3}
    assert pair.fleet("fw2") == {SCANNER, "2001:db8:7::", OTHER}
    assert pair.share("fw1", "fw2") == {"refused (replay)": 3}
    assert pair.share("fw2", "fw1") == {}, "no echo: what came from others is not sent on"

    # A crash loses nothing, and doubles nothing.
    pair.daemons["fw2"].kill()
    pair.daemons["fw2"].wait()
    two.nft("flush set inet sentryfw fleet4")
    pair.daemons["fw2"] = two.start_daemon()
    assert pair.share("fw1", "fw2") == {"refused (replay)": 3}
    members = json.loads(pair.ask("fw2", "members", "--json"))["members"]
    assert members["fw1"]["blocks"] == 3

    # An unblock by the member that made it is a withdraw; one by hand is local.
    assert one.sentryfw("unblock", SCANNER).returncode == 0
    assert pair.share("fw1", "fw2") == {"refused (replay)": 3, "lift": 1}
    assert SCANNER not in pair.fleet("fw2")
    rows = json.loads(two.sentryfw("list", "--json").stdout)
    assert {row["address"] for row in rows} == {"2001:db8:7::/64", OTHER}, rows
    [listed] = [row for row in rows if row["address"] != OTHER]
    assert (listed["member"], listed["reason"]) == ("fw1", "fw1: blocked by hand")
    assert two.sentryfw("unblock", "2001:db8:7::/64").returncode == 0
    assert "2001:db8:7::" not in pair.fleet("fw2")
    assert one.sentryfw("list").stdout.count("2001:db8:7::/64") == 1, "fw1 blocks it still"
    pair.daemons["fw2"].terminate()
    pair.daemons["fw2"].wait()
    pair.daemons["fw2"] = two.start_daemon()
    assert "2001:db8:7::" not in pair.fleet("fw2")
    pair.daemons["fw2"].terminate()
    pair.daemons["fw2"].wait()


def test_a_member_that_is_dropped_leaves_no_block(pair: Pair) -> None:
    pair.boxes["fw1"].sentryfw("block", SCANNER)
    pair.share("fw1", "fw2")
    assert pair.fleet("fw2") == {SCANNER}
    assert pair.ask("fw2", "drop", "fw1") == "1 sources of fw1 dropped\n"
    assert pair.fleet("fw2") == set()


def test_the_table_that_was_flushed_gets_the_fleets_blocks_back(pair: Pair) -> None:
    pair.boxes["fw1"].sentryfw("block", SCANNER)
    pair.share("fw1", "fw2")
    two = pair.boxes["fw2"]
    two.nft("delete table inet sentryfw")
    wait_for(lambda: _has_table(two), "the daemon has repaired the table", 20)
    wait_for(lambda: pair.fleet("fw2") == {SCANNER}, "and what the fleet blocks", 20)


def _has_table(box: Box) -> bool:
    return box.namespace.run("nft", "list", "set", "inet", "sentryfw", "fleet4").returncode == 0


NAMES = {4: ATTACKER[4], 6: "2001:2:0:1::/64"}
MEMBER = Signer(b"1" * 32)
SETTINGS = f"""
[fleet]
name = "us"
[fleet.members.fw1]
key = "{MEMBER.public_key().hex()}"
"""


Named = tuple[str, Signer]


def _entry(
    seq: int, address: str, evidence: Proof, by: Named = ("fw1", MEMBER), op: Operation = "block"
) -> dict[str, str]:
    """Return a signed entry of a member."""
    member, signer = by
    raw = Entry(
        op=op, member=member, seq=seq, network=ip_network(address), duration_s=600,
        evidence=evidence, scan="portscan", reason="why", at=int(time.time()),
    ).encode()  # fmt: skip
    return {"entry": raw.decode(), "signature": signer.sign(raw).hex()}


def _passed(daemon: Sentry, item: dict[str, str]) -> list[str]:
    """Pass an entry to the daemon; return its effect."""
    request = {"do": "fleet-incoming", "entries": [item]}
    answers = ask_stream(daemon.settings.paths.control, request)
    return [str(answer.get("effect") or answer.get("refused")) for answer in answers]


def _sent(
    daemon: Sentry, seq: int, address: str, evidence: Proof, by: Named = ("fw1", MEMBER)
) -> list[str]:
    """Send a block of a member to the daemon; return its effect."""
    return _passed(daemon, _entry(seq, address, evidence, by))


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_forgeable_evidence_of_others_defers_after_one_own_probe(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(SETTINGS)
    source = ATTACKER[family]
    assert _sent(daemon, 1, NAMES[family], "forgeable") == ["weigh"]
    assert lab.elements(f"defer{family}") == set(), "who sends nothing unlisted notices nothing"
    lab.probe(source, 1)
    wait_for(lambda: len(lab.elements(f"defer{family}")) == 1, "one own probe defers it")
    assert not lab.is_blocked(source), "a block needs two own targets"


def test_without_an_entry_one_probe_defers_no_source(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(SETTINGS)
    lab.probe(ATTACKER[4], 1)
    wait_for(lambda: lab.count("judged") > 0, "the probe was judged")
    wait_for(lambda: daemon.status()["tracked_sources"] == 1, "and counted")
    assert lab.elements("defer4") == set()


def test_proven_evidence_of_others_blocks_before_any_own_probe(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(SETTINGS)
    lab.listen(80, 4)
    assert _sent(daemon, 1, ATTACKER[4], "proven") == ["block"]
    lab.probe(ATTACKER[4], 80)
    wait_for(lambda: lab.count("fleet") == 1, "the SYN was dropped")
    assert not lab.is_blocked(ATTACKER[4]), "it is not a block of our own"


NOTRACK = (
    "table inet untracked { chain prerouting"
    " { type filter hook prerouting priority raw; notrack; }; }"
)


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_foreign_block_holds_under_an_operator_s_notrack_rules(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(SETTINGS)
    lab.nft(NOTRACK)
    lab.listen(80, family)
    lab.probe(BYSTANDER[family], 80)
    assert lab.count("fleet") == 0, "a stranger that no member named"
    assert _sent(daemon, 1, NAMES[family], "proven") == ["block"]
    lab.probe(ATTACKER[family], 80)
    wait_for(lambda: lab.count("fleet") == 1, "the SYN was dropped")


@pytest.mark.parametrize("evidence", ["proven", "hand", "forgeable"])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_foreign_proven_block_ends_live_flows_and_a_forgeable_one_does_not(
    lab: Lab, start_daemon: StartDaemon, family: int, evidence: Proof
) -> None:
    daemon = start_daemon(f'{SETTINGS}\ntrust = "full"')
    listener = lab.listen(family=family)
    client = lab.open(ATTACKER[family])
    server, _ = listener.accept()
    with client, server:
        server.settimeout(5)
        client.sendall(b"first")
        assert server.recv(5) == b"first"
        wait_for(lambda: len(lab.elements(f"partner{family}")) == 1, "the client is a partner")
        assert _sent(daemon, 1, NAMES[family], evidence) == ["never-block"]
        lab.nft(f"flush set inet sentryfw partner{family}")
        assert _sent(daemon, 2, NAMES[family], evidence) == ["block"]
        client.sendall(b"hello")
        if evidence == "forgeable":
            assert server.recv(5) == b"hello"
            return
        wait_for(lambda: lab.count("fleet") > 0, "what the client sends is dropped")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.recv(5)
        lab.table.decisions.lift_for_fleet(parse_source(NAMES[family]))
        server.settimeout(10)
        assert server.recv(5) == b"hello", "nothing else stands between both"


SECOND = Signer(b"2" * 32)
AGREE = f"""
[fleet]
name = "us"
agree = 2
[fleet.members.fw1]
key = "{MEMBER.public_key().hex()}"
[fleet.members.fw2]
key = "{SECOND.public_key().hex()}"
"""


@pytest.mark.parametrize("both", [True, False], ids=["two-agree", "one-alone"])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_two_members_that_agree_make_two_own_targets_enough(
    lab: Lab, start_daemon: StartDaemon, family: int, *, both: bool
) -> None:
    daemon = start_daemon(AGREE)
    source, name = ATTACKER[family], f"fleet{family}"
    assert _sent(daemon, 1, NAMES[family], "forgeable") == ["weigh"]
    if both:
        assert _sent(daemon, 1, NAMES[family], "forgeable", ("fw2", SECOND)) == ["weigh"]
    lab.probe(source, 1)
    wait_for(lambda: len(lab.elements(f"defer{family}")) == 1, "one own probe defers it")
    assert lab.elements(name) == set(), "and does not block it"
    lab.probe(source, 2)
    wait_for(lambda: lab.count("judged") >= 2, "the second was judged")
    if not both:
        wait_for(lambda: daemon.status()["tracked_sources"] == 1, "it counts")
        assert lab.elements(name) == set()
        return
    wait_for(lambda: len(lab.elements(name)) == 1, "its second target blocks it")
    withdraw = _entry(2, NAMES[family], "forgeable", ("fw2", SECOND), op="withdraw")
    assert _passed(daemon, withdraw) == ["lift"]
    assert lab.elements(name) == set()
