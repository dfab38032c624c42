"""Find sources that send equal probes at once: a scanner behind decoys.

decoy-scan: `nmap -D` sends each probe once in the name of every decoy, with the same source
port, target port and sequence number (scan_engine_raw.cc, sendIPScanProbe: the packet is built
once a decoy from the same variables). Two sources that agree in these 64 bits within a second
are one sender. Datagrams are compared by ports and length; they agree by chance more often, and
a wrong guess only makes a block shorter. Who is alone in all of several groups is the sender.
"""

from typing import Final, NamedTuple

from sentryfw.engine.model import Group, Packet, Source
from sentryfw.engine.packet import TCP, UDP

MOMENT_S: Final = 1.0
"""Seconds of a generation of probes; probes of one or two generations count as simultaneous."""
MAX_KEYS: Final = 8192
"""Probes of a generation; in a flood a generation is shorter."""
MAX_GROUP: Final = 64
"""Sources remembered of a decoy group."""
MIN_SENDER_GROUPS: Final = 3
"""Groups with otherwise different members that show their one common source to be the sender."""
CONTINUES_S: Final = 10.0
"""Seconds for which a smaller group within a source's last one is taken for that one."""
MEMBERSHIP_S: Final = 86400.0
"""Seconds for which the groups of a source are remembered, after the last one."""
MAX_MEMBERS: Final = 8192
"""Sources of one group, and of more, that are remembered."""


class _Membership(NamedTuple):
    """The groups of one source."""

    common: frozenset[Source]
    """The sources that were in each of them."""
    last: frozenset[Source]
    groups: int
    """Number of groups, without those that were equal to the one before."""
    until: float


class Senders:
    """Finds who sends behind decoys: the one source that is alone in all of several groups.

    A victim that is put into every group beside the sender hides it; then there is none.
    """

    def __init__(self) -> None:
        self._once: dict[Source, _Membership] = {}
        self._more: dict[Source, _Membership] = {}
        """Sources of two groups or more: those of one do not push them out."""

    def __len__(self) -> int:
        return len(self._once) + len(self._more)

    def learn(self, group: Group, at: float) -> None:
        """Add a group of this time, to which no source is added any more.

        The members of a group are blocked one after another. Its last probes come from those that
        are left, and show who was blocked first, not who sends.
        """
        members = frozenset(group)
        for source in group:
            before = self._once.pop(source, None) or self._more.pop(source, None)
            if before is None or before.until <= at:
                known = _Membership(members, members, 1, at + MEMBERSHIP_S)
            elif members < before.last and at <= before.until - MEMBERSHIP_S + CONTINUES_S:
                known = before
            else:
                groups = before.groups + (members != before.last)
                common = before.common & members
                known = _Membership(common, members, groups, at + MEMBERSHIP_S)
            place = self._more if known.groups > 1 else self._once
            if len(place) >= MAX_MEMBERS:
                del place[next(iter(place))]
            place[source] = known

    def is_sender(self, source: Source, now: float) -> bool:
        """Return whether this source sent what the decoys it was seen with seemed to send."""
        known = self._more.get(source)
        return (
            known is not None and known.until > now and known.groups >= MIN_SENDER_GROUPS
            and len(known.common) == 1
        )  # fmt: skip


class DecoyDetector:
    """Finds groups of sources that send equal probes at once."""

    def __init__(self) -> None:
        self._born = self._born_before = 0.0
        self._now: dict[bytes, Source | Group] = {}
        self._before: dict[bytes, Source | Group] = {}
        self._groups: list[Group] = []
        self._groups_before: list[Group] = []
        self.senders = Senders()

    def observe(self, packet: Packet, source: Source, now: float) -> Group | None:
        """Return the group that sent this probe within a moment, this source included, or None."""
        # From the destination address on: the bytes up to the transport header are equal for one
        # sender, then come ports, sequence numbers and flags, or ports and length.
        if packet.protocol == TCP:
            end = packet.transport + 14
        elif packet.protocol == UDP:
            end = packet.transport + 6
        else:
            return None
        if now - self._born > MOMENT_S or len(self._now) >= MAX_KEYS:
            self._begin_generation(now)
        key = packet.payload[16 if len(packet.source) == 4 else 24 : end]
        home = self._now if key in self._now else self._before
        seen = home.get(key)
        if seen is None:
            self._now[key] = source
            return None
        if isinstance(seen, bytes):  # one source so far, as for most probes
            if seen == source:
                return None
            seen = home[key] = {seen: None}
            if packet.protocol == TCP:  # datagrams agree by chance
                self._groups.append(seen)
        if len(seen) < MAX_GROUP:
            seen[source] = None
        return seen

    def _begin_generation(self, now: float) -> None:
        """Begin a generation; learn from the groups to which no source is added any more."""
        stale = now - self._born > 2 * MOMENT_S
        for group in self._groups_before:
            self.senders.learn(group, self._born_before)
        if stale:
            for group in self._groups:
                self.senders.learn(group, self._born)
            self._groups = []
        self._groups_before, self._groups = self._groups, []
        self._before, self._now = ({} if stale else self._now), {}
        self._born_before, self._born = self._born, now
