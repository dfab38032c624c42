"""The effects of an install in sentences, for `install --dry-run`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sentryfw.config import DEFAULT_PATH
from sentryfw.config.model import Config
from sentryfw.host import account
from sentryfw.host.protected import Protected
from sentryfw.netfilter.load import Plan
from sentryfw.setup import service as systemd
from sentryfw.setup.unit_files import FILES, HELPER_FILES, LINK_PLACE, LOGROTATE, UNIT
from sentryfw.text import counted, duration

MAX_NAMED: Final = 6
"""Never-block sources that are named."""


def sentences(
    config: Config, planned: Plan, protected: Sequence[Protected], path: Path | None, *,
    with_service: bool,
) -> list[str]:  # fmt: skip
    """Return what `install` would do beside loading the ruleset, and what it would change for the
    traffic."""
    return [
        *_table(planned), *_traffic(config), _never_blocked(protected), *_reactions(config),
        *_files(config, path), *_service(config, with_service=with_service),
        "Nothing was changed: this was a dry run. To undo an install: sentryfw uninstall",
    ]  # fmt: skip


def _table(planned: Plan) -> Iterator[str]:
    if planned.update:
        yield "It would replace table inet sentryfw in one transaction; its blocks stay."
    else:
        yield "It would add table inet sentryfw; no other table is changed."
    way = "the queue statement" if planned.divert == "queue" else "the xt NFQUEUE target"
    yield f"Packets would reach the daemon by {way}; while no daemon runs, they pass."


def _traffic(config: Config) -> Iterator[str]:
    watch = config.watch
    where = f"on {', '.join(watch.interfaces)}" if watch.interfaces else "on every interface but lo"
    hosts = " and to hosts behind" if watch.forward else ""
    what = "the trap ports" if watch.mode == "traps" else "ports that nothing listens at"
    yield f"New packets to {what} of this host{hosts}, {where}, would be held and judged."
    times = ", then ".join(duration(seconds) for seconds in config.block.timeouts)
    if config.detect.mode == "observe":
        yield 'Scans would be reported only, not blocked: mode = "observe".'
    else:
        yield f"Sources that scan would be blocked for {times}; what this host opens to them works."


def _never_blocked(protected: Sequence[Protected]) -> str:
    ordered = sorted(protected, key=lambda entry: entry.why == "own address")  # known anyway
    named = [f"{entry.network} ({entry.why})" for entry in ordered[:MAX_NAMED]]
    more = len(protected) - len(named)
    rest = f", and {more:,} more" if more else ""
    return f"Never blocked: {', '.join(named) or 'no source'}{rest}."


def _reactions(config: Config) -> Iterator[str]:
    respond = config.respond
    on = {
        "a line in hosts.deny": respond.hosts_deny.enabled,
        "a blackhole route": respond.route.enabled,
        "if it is proven, a route for BGP": respond.bgp.enabled,
        "a decision or an alert at CrowdSec": bool(respond.crowdsec.url),
        f"the command {respond.command.argv[:1]}": bool(respond.command.argv),
    }
    chosen = [name for name, is_on in on.items() if is_on]
    if chosen:
        yield f"Each block would cause, too: {', '.join(chosen)}."


def _files(config: Config, path: Path | None) -> Iterator[str]:
    paths = config.paths
    owner = account.find()
    if owner is None:
        yield f"It would create the system user {account.USER} for the daemon."
    places = [paths.state, paths.log, paths.runtime]
    yield f"Its files: {', '.join(map(str, places))}, owned by {account.USER}."
    if path is None and not DEFAULT_PATH.exists():
        yield f"It would create {DEFAULT_PATH}, empty: every key has its default."


def _service(config: Config, *, with_service: bool) -> Iterator[str]:
    if not with_service:
        yield "No service (--no-service): start sentryfwd yourself, or nothing is judged."
        return
    if not systemd.SYSTEMD.is_dir():
        yield "systemd does not run here: start sentryfwd by other means, or nothing is judged."
        return
    helper = list(HELPER_FILES.values()) if config.respond.needs_root else []
    if config.fleet.hub.is_on:
        helper.append(LINK_PLACE)
    written = [str(systemd.ETC / place) for place in (FILES[UNIT], LOGROTATE, *helper)]
    yield f"It would write {', '.join(written)}."
    yield "It would enable and start sentryfw.service now, and at each boot."
    if config.fleet.hub.is_on:
        yield "The link to the hub of the fleet would run beside it, as a user of its own."
    if config.respond.needs_root:
        count = counted(len(HELPER_FILES), "unit")
        yield f"The reactions need root, so a helper would run beside it ({count})."
