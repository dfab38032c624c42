"""Keep what the ruleset's rules have learnt in the ledger, and restore it after a restart.

The kernel fills these sets itself, without notifications, so they are read once a minute in the
guard's thread, and at the end of the daemon. They are restored before packets are judged.

See docs/decisions.md: learnt-sets.
"""

import errno
import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from sentryfw.engine.model import parse_source
from sentryfw.errors import KernelError
from sentryfw.guard.moment import Moment
from sentryfw.netfilter.schema import FLEET_SETS, LEARNT_SETS, LIFTED_SETS, TABLE
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import (
    ELEMENT_KEY_BYTES,
    ElementReader,
    Lifetime,
    element_payload,
    new_elements,
    packed_element,
    payloads,
)
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import learnt
from sentryfw.record.fleet import held
from sentryfw.record.learnt import LearntElement
from sentryfw.record.ledger import Ledger
from sentryfw.record.resilient_ledger import AnyLedger

log: Final = logging.getLogger("sentryfwd")

MAX_KEPT_BYTES: Final = 4 << 20
"""Elements of a set, in the kernel's form, that stay in memory for a repair of the table."""
RESTORE_BATCH: Final = 2_000
"""Elements in one transaction."""

Pause = Callable[[], object]
"""Called between two messages, for other threads to run."""
Kept = dict[str, tuple[bytes, ...]]
"""Payloads of elements by set, which new_elements() adds again."""


def save(netlink: NfnetlinkSocket, ledger: AnyLedger, now: Moment, pause: Pause = bool) -> Kept:
    """Write the elements of the sets into the ledger; return them as far as memory keeps them.

    Raise sqlite3.Error. A set that does not exist leaves its rows as they are.
    """
    kept: Kept = {}
    for name in LEARNT_SETS:
        raw: list[bytes] = []
        with suppress(KernelError):
            learnt.save(ledger, name, _elements(netlink, name, now, raw, pause))
            kept[name] = tuple(raw)
    learnt.forget_ended(ledger, now.wall)
    return kept


def read(netlink: NfnetlinkSocket, pause: Pause = bool) -> Kept:
    """Return the elements of the sets, as far as memory keeps them."""
    kept: Kept = {}
    for name in LEARNT_SETS:
        raw: list[bytes] = []
        with suppress(KernelError):
            for _ in _elements(netlink, name, Moment.now(), raw, pause):
                pass
            kept[name] = tuple(raw)
    return kept


def restore(netlink: NfnetlinkSocket, ledger: AnyLedger, now: Moment) -> int:
    """Add the elements of the ledger that the sets lack; return how many.

    What the kernel holds already stays as it is: it knows better.
    """
    count = 0
    for name in LEARNT_SETS:
        try:
            count += _restore_set(netlink, ledger, name, now)
        except KernelError as error:
            fault = "the set is full" if error.code == errno.ENFILE else str(error)
            log.warning("cannot restore all of set %s: %s", name, fault)
        except sqlite3.Error as error:
            log.warning("cannot restore all of set %s from the ledger: %s", name, error)
    return count


def record_unblock(ledger: Ledger, address: str | None, now: float) -> None:
    """Record that an address (None: every one) was unblocked, and forget its confinement: a start
    would restore it from what was saved within the last minute."""
    ledger.unblocked(address, now)
    if address is None or "/" not in address or address.endswith("/64"):  # else a network
        key = None if address is None else key_of(parse_source(address))
        learnt.lift(ledger, (*LIFTED_SETS, *FLEET_SETS.values()), key)
    held.lift_by_hand(ledger, address)


def _restore_set(netlink: NfnetlinkSocket, ledger: AnyLedger, name: str, now: Moment) -> int:
    there = {item.key for item in _elements(netlink, name, now, [])}
    wanted = (
        packed_element(item.key, Lifetime(item.timeout, item.end - now.wall))
        for item in learnt.active(ledger, name, now.wall)
        if item.key not in there and len(item.key) in ELEMENT_KEY_BYTES
    )
    count = 0
    while batch := list(itertools.islice(wanted, RESTORE_BATCH)):
        requests = [new_elements(TABLE, name, payload) for payload in payloads(batch)]
        netlink.transact(requests, f"{len(batch)} elements into {name}")
        count += len(batch)
    return count


def _elements(
    netlink: NfnetlinkSocket, name: str, now: Moment, raw: list[bytes], pause: Pause = bool
) -> Iterator[LearntElement]:
    """Yield the elements of a set, and add its payloads to `raw` up to MAX_KEPT_BYTES.

    The kernel reports no timeout of an element that has the set's own.
    """
    about = nl.text(nl.NFTA_SET_TABLE, TABLE) + nl.text(nl.NFTA_SET_NAME, name)
    usual = next(map(nl.set_timeout, netlink.request(nl.NFT_MSG_GETSET, about, f"set {name}")))
    reader = ElementReader()
    size = 0
    for reply in netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}"):
        payload = element_payload(reply)
        size += len(payload)
        if payload and size <= MAX_KEPT_BYTES:
            raw.append(payload)
        for element in reader.read(reply):
            yield LearntElement(element.key, element.timeout or usual, now.wall + element.expires)
        pause()
