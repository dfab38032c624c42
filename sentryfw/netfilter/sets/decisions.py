"""The sets that decisions fill beside the block sets: confinements, deferrals, the fleet's."""

import errno
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from sentryfw.engine.model import Source
from sentryfw.errors import KernelError
from sentryfw.netfilter.schema import (
    AWAY_SET,
    BLOCK_ETHER_SET,
    BLOCK_PREFIX_SETS,
    CONFINE_PAUSE_SET,
    CONFINE_SETS,
    CUT_SETS,
    DEFER_ETHER_SET,
    DEFER_PREFIX_SETS,
    DEFER_SETS,
    DEFER_TARGET_SETS,
    FLEET_CUT_SETS,
    FLEET_SETS,
    FLOODED_SET,
    TABLE,
)
from sentryfw.netfilter.sets import elements, whole
from sentryfw.netfilter.sets.counts import element_count, reported_count
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import NLM_F_CREATE, NLM_F_EXCL
from sentryfw.netlink.set_elements import Element, set_element
from sentryfw.netlink.socket import NfnetlinkSocket

AWAY_KEYS: Final = (b"\x06", b"\x11")
"""TCP and UDP, of type inet_proto."""
_DEFER_PLACE_SETS: Final = {
    **{bits // 8: name for bits, name in DEFER_PREFIX_SETS.items()}, 8: DEFER_ETHER_SET,
}  # fmt: skip
_BLOCK_PLACE_SETS: Final = {
    **{bits // 8: name for bits, name in BLOCK_PREFIX_SETS.items()}, 8: BLOCK_ETHER_SET,
}  # fmt: skip
FEW_COUNT: Final = 8
"""Blocks for which the kernel is asked what is there. More are expected to be new: a transaction
that fails costs 10 ms, as much as a thousand questions."""
TCP_KEY: Final = b"\x06"
"""IPPROTO_TCP, of type inet_proto: the one element of confine_pause and of flooded."""


class DecisionSets:
    """The confine, cut, defer and fleet sets of the table, through one netlink socket."""

    def __init__(self, netlink: NfnetlinkSocket) -> None:
        self._netlink = netlink

    def confine(self, source: Source, timeout: float) -> None:
        """Confine a partner to what it uses, for `timeout` seconds; return when the kernel has
        acknowledged it."""
        key = key_of(source)
        elements.add_timed(self._netlink, [(CONFINE_SETS[len(key)], key, timeout)], "confine")

    def defer(self, place: bytes, timeout: float) -> None:
        """Defer strangers' SYNs to listed ports for `timeout` seconds: those to an address of ours
        (4 or 16 bytes), or of a prefix (3, 6 or 7 bytes) or hardware address (8 bytes)."""
        name = DEFER_TARGET_SETS.get(len(place)) or _DEFER_PLACE_SETS[len(place)]
        requests = elements.timed_requests(name, elements.key_of_place(place), timeout)
        self._netlink.transact(requests, "defer")

    def defer_source(self, source: Source, timeout: float) -> None:
        """Defer a source's SYNs to listed ports for `timeout` seconds, unless it is a partner."""
        key = key_of(source)
        self._netlink.transact(elements.timed_requests(DEFER_SETS[len(key)], key, timeout), "defer")

    def block_for_fleet(
        self, blocks: Iterable[tuple[Source, float]], cut: Container[Source] = ()
    ) -> None:
        """Block (source, seconds; 0: forever) by the word of other members, in one transaction.

        The live flows of the sources in `cut` end as well.
        """
        fleet: dict[str, dict[bytes, float]] = {}
        flows: dict[str, dict[bytes, float]] = {}
        for source, timeout in blocks:
            key = key_of(source)
            fleet.setdefault(FLEET_SETS[len(key)], {})[key] = timeout
            in_cut = flows.setdefault(FLEET_CUT_SETS[len(key)], {})
            if source in cut:
                in_cut[key] = timeout
        if sum(map(len, fleet.values())) <= FEW_COUNT or not self._add_new({**fleet, **flows}):
            self._replace(fleet, flows)

    def _add_new(self, wanted: Mapping[str, Mapping[bytes, float]]) -> bool:
        """Add elements to the fleet's sets in one transaction; return False, and none is added, if
        one is there already."""
        requests = [
            (kind, flags | NLM_F_EXCL, body)
            for name, timeouts in wanted.items()
            for kind, flags, body in elements.replacements(name, timeouts, ())
        ]
        try:
            self._netlink.transact(requests, "block for the fleet")
        except KernelError as error:
            if error.code != errno.EEXIST:
                raise
            return False
        return True

    def _replace(
        self, fleet: Mapping[str, Mapping[bytes, float]], flows: Mapping[str, Mapping[bytes, float]]
    ) -> None:
        requests: list[nl.NftRequest] = []
        for (name, given), (cut_name, in_cut) in zip(fleet.items(), flows.items(), strict=True):
            old = elements.existing(self._netlink, name, list(given))
            requests += elements.replacements(name, given, old)
            # Asked for all of them: another program may have emptied one of the two sets.
            old = elements.existing(self._netlink, cut_name, list(given))
            requests += elements.replacements(cut_name, in_cut, old)
        if requests:
            self._netlink.transact(requests, "block for the fleet")

    def find_of_fleet(self, source: Source) -> Element | None:
        """Return the block of one source by other members; None if there is none."""
        key = key_of(source)
        return elements.get(self._netlink, FLEET_SETS[len(key)], key)

    def lift_for_fleet(self, source: Source) -> bool:
        """End the block of a source by other members; return whether there was one."""
        key = key_of(source)
        found = self.find_of_fleet(source) is not None  # a transaction that fails costs 10 ms
        if found and elements.get(self._netlink, FLEET_CUT_SETS[len(key)], key) is not None:
            elements.delete(self._netlink, FLEET_CUT_SETS[len(key)], key)
        return found and elements.delete(self._netlink, FLEET_SETS[len(key)], key)

    def of_fleet(self) -> Iterator[Element]:
        """Yield the blocks by other members, in fleet4 and fleet6."""
        for name in FLEET_SETS.values():
            yield from whole.read_elements(self._netlink, name, bool)

    def block_prefix(self, place: bytes, timeout: float) -> None:
        """Drop what strangers of a prefix (3, 6 or 7 bytes) or of a hardware address on link (8
        bytes) open, for `timeout` seconds."""
        key = elements.key_of_place(place)
        requests = elements.timed_requests(_BLOCK_PLACE_SETS[len(place)], key, timeout)
        self._netlink.transact(requests, "block a prefix")

    def release(self, source: Source) -> bool:
        """End the confinement of a source and its block by other members, and let its flows live;
        return whether it was confined or blocked so."""
        key = key_of(source)
        of_fleet = self.lift_for_fleet(source)
        for name in (CUT_SETS[len(key)], CONFINE_SETS[len(key)]):
            # A transaction that fails costs 10 ms.
            found = elements.get(self._netlink, name, key) is not None
            if found:
                elements.delete(self._netlink, name, key)
        return found or of_fleet

    def find(self, source: Source) -> Element | None:
        """Return the confinement of one source; None if it is not confined."""
        key = key_of(source)
        return elements.get(self._netlink, CONFINE_SETS[len(key)], key)

    def confined(self) -> Iterator[Element]:
        """Yield the confinements in confine4 and confine6."""
        for name in CONFINE_SETS.values():
            yield from whole.read_elements(self._netlink, name, bool)

    def count(self, name: str) -> int | None:
        """Return the kernel's own count of a set's elements; see reported_count()."""
        return reported_count(self._netlink, name)

    def count_confined(self) -> dict[int, int]:
        """Return the number of confinements of each family."""
        return {
            family: element_count(self._netlink, name)
            for family, name in ((4, CONFINE_SETS[4]), (6, CONFINE_SETS[16]))
        }

    def is_paused(self) -> bool:
        """Return whether partners are not confined yet: an older table, which did not know what
        they use, was replaced less than a day ago."""
        return elements.get(self._netlink, CONFINE_PAUSE_SET, TCP_KEY) is not None

    def limit_early(self, timeout: float) -> None:
        """Limit new sources of TCP before connection tracking, for `timeout` seconds, unless they
        are already."""
        if elements.get(self._netlink, FLOODED_SET, TCP_KEY) is None:
            elements.add_timed(self._netlink, [(FLOODED_SET, TCP_KEY, timeout)], "limit a flood")

    def drop_while_away(self, *, is_on: bool) -> None:
        """Drop unlisted TCP and UDP from now on while no program has the queue, or let it pass.

        The set is there if the configuration asks for it.
        """
        change = nl.NFT_MSG_NEWSETELEM if is_on else nl.NFT_MSG_DELSETELEM
        requests: list[nl.NftRequest] = [(change, 0, nl.set_name(TABLE, AWAY_SET))]
        if is_on:
            bodies = (set_element(TABLE, AWAY_SET, key) for key in AWAY_KEYS)
            requests = [(change, NLM_F_CREATE, body) for body in bodies]
        self._netlink.transact(requests, "while away")
