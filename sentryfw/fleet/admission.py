"""Decide what an entry of another member is worth here: (Entry, Trust, clock) -> effect or refusal.

The rules of this file, in order; the first that applies decides.
1. Only members of the configuration are heard, and never our own name: no echo.
2. The number is above the last one of that member: a repeated or older entry changes nothing.
   Numbers that were left out are counted.
3. Never-block, the allowlist, partners, own addresses and gateways win.
4. Only hosts: an address, or an IPv6 /64. Networks, blocks without end, more than `max_s` seconds,
   elements of learnt sets, and the end of a block that this member did not make, are for
   trust = "full" alone; with it a neighbour such as CrowdSec may name networks, nothing else.
5. The caps of a member without full trust: sources alive, entries a minute. A member that was away
   has saved up what it did not use, up to its sources alive: catching up is not a flood.
6. trust = "show" has no effect. Proven evidence blocks. With trust = "weigh", forgeable evidence
   only lowers what this host needs to see itself: one own probe defers the source.
7. A withdraw ends the entry of the same member, and nothing else; an unblock ends every block.

See docs/decisions.md: fleet-trust.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from sentryfw.fleet.entry import Elements, Entry, Statement

MAX_ALIVE: Final = 2000
MAX_PER_MINUTE: Final = 60
MAX_S: Final = 4 * 3600
MAX_NETWORKS: Final = 1000
"""Networks of one member in effect at once: their sets are made as a whole for each change."""

Trust = Literal["full", "weigh", "show"]
Effect = Literal["block", "weigh", "show", "lift", "unblock"]
Reason = Literal[
    "unknown-member", "echo", "replay", "never-block", "network", "permanent", "too-many-alive",
    "too-fast", "over", "nothing-to-withdraw",
    "needs-full-trust", "full", "bad-set",
]  # fmt: skip
Exempt = Callable[[Entry], bool]
"""Returns whether a source is never to be touched by what others say."""


class Member(NamedTuple):
    """An operator's choices about another member."""

    trust: Trust = "weigh"
    max_alive: int = MAX_ALIVE
    """Sources of its entries in effect at once."""
    per_minute: int = MAX_PER_MINUTE
    max_s: int = MAX_S
    """Longest block, in seconds; longer ones are shortened."""
    is_neighbour: bool = False
    """Whether it is not a firewall: its caps hold with full trust, too."""

    @property
    def is_pair(self) -> bool:
        """Whether it is the other half of a pair, which has no caps."""
        return self.trust == "full" and not self.is_neighbour


class Admitted(NamedTuple):
    """An entry that has an effect here, or is shown."""

    effect: Effect
    entry: Entry
    seconds: float
    """Seconds from now on; 0: without end."""
    gap: int
    """Numbers of the member that were left out before this one."""


class Rejected(NamedTuple):
    """An entry that has none."""

    reason: Reason


class Alive(NamedTuple):
    """A source that a member's entry holds."""

    effect: Effect
    end: float
    """Clock value; infinity: without end."""
    cut: bool = False
    """Whether its live flows end, too: the evidence cannot be forged."""


class Standing:
    """One member's entries in effect, and its credit."""

    __slots__ = ("alive", "credit", "last", "learnt", "member", "refused", "since")

    def __init__(self, member: Member, now: float, last: int = 0) -> None:
        self.member = member
        self.last = last
        """The number of its last entry."""
        self.alive: dict[str, Alive] = {}
        self.learnt = 0
        """Elements of learnt sets that it added or prolonged here."""
        self.refused: Counter[str] = Counter()
        """Entries without effect, by the reason."""
        self.credit = float(member.max_alive)
        self.since = now

    def earn(self, now: float) -> int:
        """Return the credit at this moment, in entries."""
        earned = max(0.0, now - self.since) * self.member.per_minute / 60
        self.credit = min(float(self.member.max_alive), self.credit + earned)
        self.since = now
        return int(self.credit)

    def spend(self, now: float) -> bool:
        """Take one entry off the credit; return False where there is none."""
        if not self.earn(now):
            return False
        self.credit -= 1
        return True

    def expire(self, now: float) -> None:
        """Forget the entries that have ended."""
        for address in [name for name, held in self.alive.items() if held.end <= now]:
            del self.alive[address]


class Admission:
    """Decides about entries whose signatures were checked; remembers what is in effect."""

    def __init__(self, own: str, members: Mapping[str, Member], exempt: Exempt) -> None:
        """`own`: our name; `exempt`: rule 3."""
        self._own = own
        self._exempt = exempt
        self._standings = {name: Standing(member, 0.0) for name, member in members.items()}

    @property
    def standings(self) -> Mapping[str, Standing]:
        """The members by their names."""
        return self._standings

    def restore(self, name: str, last: int, alive: Mapping[str, Alive], now: float) -> None:
        """Continue after a restart; a member that the configuration names no longer is left out."""
        standing = self._standings.get(name)
        if standing is not None:
            standing.last = last
            standing.alive.update(alive)
            standing.since = now

    def forget(self, name: str) -> list[str]:
        """Take back every entry of a member; return their sources. Its last number stays known."""
        standing = self._standings.get(name)
        if standing is None:
            return []
        addresses = list(standing.alive)
        standing.alive.clear()
        return addresses

    def admit(self, entry: Entry, now: float, wall: float) -> Admitted | Rejected:
        """Decide about an entry. `now`: a clock value; `wall`: seconds since the epoch."""
        heard = self._hear(entry)
        if isinstance(heard, Rejected):
            return heard
        standing, gap = heard
        if entry.op == "withdraw":
            return self._withdraw(entry, standing, gap)
        if entry.op == "unblock":
            return self._unblock(entry, standing, gap)
        seconds = _seconds_left(entry, standing.member, wall)
        if seconds is None:
            return self._refuse(standing, "over")
        obstacle = self._obstacle(entry, standing, now)
        if obstacle is not None:
            return self._refuse(standing, obstacle)
        effect = _effect(entry, standing.member.trust)
        end = now + seconds if seconds else float("inf")
        standing.alive[entry.address] = Alive(effect, end, entry.evidence != "forgeable")
        return Admitted(effect, entry, seconds, gap)

    def admit_elements(self, given: Elements, wall: float) -> dict[bytes, float] | Rejected:
        """Decide about elements of a learnt set; return the seconds that are left of each."""
        heard = self._hear(given)
        if isinstance(heard, Rejected):
            return heard
        standing, _ = heard
        if not standing.member.is_pair:
            return self._refuse(standing, "needs-full-trust")
        age = max(0.0, wall - given.at)
        left = {key: seconds - age for key, seconds in given.elements if seconds > age}
        return left or self._refuse(standing, "over")

    def refuse(self, member: str, reason: Reason) -> Rejected:
        """Count an admitted statement that the kernel has no place for."""
        return self._refuse(self._standings[member], reason)

    def _hear(self, given: Statement) -> tuple[Standing, int] | Rejected:
        """Return the member of a statement, and how many numbers were left out before it."""
        standing = self._standings.get(given.member)
        if given.member == self._own:
            return Rejected("echo")
        if standing is None:
            return Rejected("unknown-member")
        if given.seq <= standing.last:
            return self._refuse(standing, "replay")
        gap = given.seq - standing.last - 1 if standing.last else 0
        standing.last = given.seq
        return standing, gap

    def _withdraw(self, entry: Entry, standing: Standing, gap: int) -> Admitted | Rejected:
        if standing.alive.pop(entry.address, None) is None:
            return self._refuse(standing, "nothing-to-withdraw")
        return Admitted("lift", entry, 0.0, gap)

    def _unblock(self, entry: Entry, standing: Standing, gap: int) -> Admitted | Rejected:
        if not standing.member.is_pair:
            return self._refuse(standing, "needs-full-trust")
        for other in self._standings.values():
            other.alive.pop(entry.address, None)
        return Admitted("unblock", entry, 0.0, gap)

    def _obstacle(self, entry: Entry, standing: Standing, now: float) -> Reason | None:
        member = standing.member
        if not entry.is_host and member.trust != "full":
            return "network"
        if self._exempt(entry):
            return "never-block"
        if not entry.is_host and (why := self._network_obstacle(entry, standing, now)):
            return why
        if member.is_pair:
            return None
        if not entry.duration_s:
            return "permanent"
        if not standing.spend(now):
            return "too-fast"
        if entry.address not in standing.alive and len(standing.alive) >= member.max_alive:
            standing.expire(now)
            if len(standing.alive) >= member.max_alive:
                return "too-many-alive"
        return None

    def _network_obstacle(self, entry: Entry, standing: Standing, now: float) -> Reason | None:
        if entry.address in standing.alive:
            return None
        standing.expire(now)
        networks = sum("/" in address for address in standing.alive)
        return "too-many-alive" if networks >= MAX_NETWORKS else None

    def _refuse(self, standing: Standing, reason: Reason) -> Rejected:
        standing.refused[reason] += 1
        return Rejected(reason)


def _seconds_left(entry: Entry, member: Member, wall: float) -> float | None:
    """Return how long an entry has effect; None if it is over. The time since it was made counts,
    but a clock that is ahead does not prolong it."""
    if not entry.duration_s:
        return 0.0
    left = entry.duration_s - max(0.0, wall - entry.at)
    if not member.is_pair:
        left = min(left, float(member.max_s))
    return left if left > 0 else None


def _effect(entry: Entry, trust: Trust) -> Effect:
    if trust == "show":
        return "show"
    return "block" if trust == "full" or entry.evidence != "forgeable" else "weigh"
