"""Install and uninstall: render, check, apply in one transaction, verify by reading back."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sentryfw.config import Config
from sentryfw.errors import SentryError
from sentryfw.netfilter import blueprint, divert, features
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.libnftables import Libnftables, NftError
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.ruleset import Ruleset, render, restore_elements
from sentryfw.netfilter.table import COMMENT, TABLE, Table, networks_of

KEPT_SETS: Final = ("block4", "block6", "block_net4", "block_net6", "partner4", "partner6")
"""Whose live elements outlast a table that is made anew."""


class Plan(NamedTuple):
    """What install would load."""

    ruleset: Ruleset
    divert: Divert
    update: bool


class Installed(NamedTuple):
    plan: Plan
    kept: int
    """Blocks that were alive before and are still."""


def plan(table: Table, config: Config, never_block: list[Protected]) -> Plan:
    """Render and check, change nothing. SentryError if the table there is not ours."""
    way = features.require(features.probe())
    update = table.is_installed() and table.comment() == COMMENT
    networks = [protected.network for protected in never_block]
    ruleset = render(config, networks, queue_statement=way == "queue", update=update)
    if not update and table.is_installed():
        ruleset = ruleset._replace(
            script=ruleset.script + restore_elements(_live_elements(Libnftables()))
        )
    Libnftables().check(ruleset.script)
    return Plan(ruleset, way, update)


def install(table: Table, config: Config, never_block: list[Protected]) -> Installed:
    """Make the table, or bring it up to date; live blocks are kept."""
    planned = plan(table, config, never_block)
    nft = Libnftables()
    if planned.divert == "queue":
        nft.run(planned.ruleset.script)
    elif planned.update:
        nft.run(planned.ruleset.script + divert.SHUT)
        divert.open_with_target(table, config.queue.number)
    else:
        nft.run(planned.ruleset.script)
        divert.append_target(table, config.queue.number)
    _verify(table, planned)
    return Installed(planned, sum(table.count_blocked().values()))


def uninstall(table: Table) -> bool:
    """Delete our table; whether there was one."""
    if not table.is_installed():
        return False
    Libnftables().run(f"delete table inet {TABLE}")
    return True


def _verify(table: Table, planned: Plan) -> None:
    with NfnetlinkSocket() as netlink:
        made = blueprint.take(netlink)
    if made is None:
        raise SentryError("loaded, but not there when read back: somebody deletes it")
    ruleset = planned.ruleset
    missing = sorted(
        (ruleset.sets - made.sets.keys())
        | (ruleset.chains - made.chains.keys())
        | (ruleset.counters - made.objects.keys())
    )
    if missing:
        raise SentryError(f"loaded, but not there when read back: {', '.join(missing)}")
    if divert.active(table) != planned.divert:
        raise SentryError("loaded, but the queue rule is not at the end of chain judge")


def _live_elements(nft: Libnftables) -> Iterator[str]:
    """`set { element timeout T expires E }` of a table that an older schema made."""
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
        rest = f" timeout {fields['timeout']}s expires {max(1, fields['expires'])}s"
    for network in networks_of(fields.get("val", element)):
        yield f"{network if network.num_addresses > 1 else network.network_address}{rest}"
