"""Load a ruleset into the kernel: apply it in one transaction, verify by reading back.

The install process runs this: it imports neither the configuration nor pydantic, so that the daemon
starts soon (install_process.py).
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.netfilter import features, queue_rule, snapshot
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.libnftables import Libnftables, NftError, listed_networks
from sentryfw.netfilter.schema import (
    COMMENT,
    CONFINE_PAUSE_SET,
    KEPT_SETS,
    NEVER_BLOCK_SETS,
    PARTNER_SETS,
    SERVED_SETS,
    SERVED_TIMEOUT_S,
    TABLE,
)
from sentryfw.netfilter.script import Ruleset, restore_elements
from sentryfw.netfilter.table import Table
from sentryfw.netlink.set_elements import ranges_in
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.text import nft_duration


class Plan(NamedTuple):
    """A checked script, and how it is loaded."""

    ruleset: Ruleset
    script: str
    divert: Divert
    update: bool


class Installed(NamedTuple):
    """A plan that was carried out."""

    plan: Plan
    kept: int
    """Blocks that were active before and still are."""


def make_plan(table: Table, ruleset: Ruleset) -> Plan:
    """Check the ruleset without loading it. Raise SentryError if another program made the table."""
    plan = _plan(table, ruleset)
    Libnftables().check(plan.script)
    return plan


def _plan(table: Table, ruleset: Ruleset, *, keep_never_block: bool = False) -> Plan:
    """Return how the ruleset is loaded; `keep_never_block`: see Ruleset.script(), for an update."""
    divert = features.require(features.probe())
    update = table.is_installed() and table.comment() == COMMENT
    script = ruleset.script(
        queue_statement=divert == "queue", update=update,
        keep_never_block=update and keep_never_block,
    )  # fmt: skip
    if not update and table.is_installed():
        script += restore_elements(_kept_elements(Libnftables()))
    return Plan(ruleset, script, divert, update)


def load(table: Table, ruleset: Ruleset) -> Installed:
    """Make the table, or update it; active blocks are kept.

    A ruleset that the kernel refuses changes nothing: it is one transaction. An update replaces the
    never-block networks in another, behind it, as far as they differ: nft's library needs 1 to 5 s
    for 100,000, and so does the kernel for a set that is emptied and filled again.
    """
    plan = _plan(table, ruleset, keep_never_block=True)
    nft = Libnftables()
    if plan.divert == "queue":
        nft.run(plan.script)
    elif plan.update:
        nft.run(plan.script + queue_rule.SHUT)
        queue_rule.open_with_target(table, ruleset.queue_number)
    else:
        nft.run(plan.script)
        queue_rule.append_target(table, ruleset.queue_number)
    if plan.update:
        wanted = NetworkIndex.of_ranges(*ruleset.never_block)
        table.replace_never_block(wanted, _never_blocked())
    _verify(table, plan)
    return Installed(plan, sum(table.sets.count_blocked().values()))


def _never_blocked() -> NetworkIndex:
    with NfnetlinkSocket() as netlink:
        held = (snapshot.element_lists(netlink, name) for name in NEVER_BLOCK_SETS)
        return NetworkIndex.of_ranges(*map(ranges_in, held))


def unload(table: Table) -> bool:
    """Delete our table; return whether there was one."""
    if not table.is_installed():
        return False
    Libnftables().run(f"delete table inet {TABLE}")
    return True


def _verify(table: Table, plan: Plan) -> None:
    wanted = plan.ruleset.names("set")
    with NfnetlinkSocket() as netlink:
        made = snapshot.read(netlink, without=wanted)
    if made is None:
        raise SentryError("the table was loaded, but is not there: another program deletes it")
    missing = sorted(
        (wanted - made.sets.keys())
        | (plan.ruleset.names("chain") - made.chains.keys())
        | (plan.ruleset.names("counter") - made.objects.keys())
    )
    if missing:
        raise SentryError(f"the table was loaded, but parts are missing: {', '.join(missing)}")
    if queue_rule.active(table) != plan.divert:
        raise SentryError("the table was loaded, but the queue rule is not in chain judge")


def _kept_elements(nft: Libnftables) -> Iterator[str]:
    """Yield the live elements; and a pause of confinement if the older schema did not know what
    partners use: they are not cut off from it."""
    kept = list(_live_elements(nft))
    yield from kept
    names = {line.partition(" ")[0] for line in kept}
    if names.intersection(PARTNER_SETS) and not names.intersection(SERVED_SETS):
        yield f"{CONFINE_PAUSE_SET} {{ tcp timeout {round(SERVED_TIMEOUT_S)}s }}"


def _live_elements(nft: Libnftables) -> Iterator[str]:
    """Yield `SET { ELEMENT timeout T expires E }` of a table that an older schema made."""
    for name in KEPT_SETS:
        try:
            listing = json.loads(nft.run(f"list set inet {TABLE} {name}", json_output=True))
        except NftError:  # the older schema did not have the set
            continue
        for found in (item["set"] for item in listing["nftables"] if "set" in item):
            for element in found.get("elem", []):
                yield from (f"{name} {{ {text} }}" for text in _element_texts(element))


def _element_texts(element: Any) -> Iterator[str]:  # noqa: ANN401 - libnftables' JSON
    fields = element.get("elem", {}) if isinstance(element, dict) else {}
    rest = ""
    if "timeout" in fields:
        rest = f" timeout {nft_duration(fields['timeout'])}"
    if "expires" in fields:  # also of an element that has its set's timeout
        rest += f" expires {nft_duration(fields['expires'])}"
    value = fields.get("val", element)
    if isinstance(value, dict) and "concat" in value:
        yield " . ".join(map(str, value["concat"])) + rest
        return
    for network in listed_networks(value):
        yield f"{network if network.num_addresses > 1 else network.network_address}{rest}"
