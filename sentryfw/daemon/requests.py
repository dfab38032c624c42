"""The requests of the control socket, answered by the daemon.

A request that only changes what the daemon knows is answered in the loop. One that reads kernel or
ledger is a stream: it runs in the socket's thread, on its own netlink socket, off the
packet path. Modules that few requests need are imported when one comes: the daemon stays small.
"""

from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, NamedTuple

from sentryfw.config.types import parse_address
from sentryfw.control.client import Answer, Request
from sentryfw.control.server import ControlServer, Reply, Stream
from sentryfw.daemon.packet_path import clock
from sentryfw.daemon.parts import Parts
from sentryfw.daemon.status import Status
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.netfilter.table import Table
from sentryfw.query import blocks


class Actions(NamedTuple):
    """The functions of the daemon that requests call."""

    status: Callable[[], Status]
    figures: Callable[[], str]
    """Prometheus' text; called in the socket's thread."""
    reload: Callable[[], Coroutine[Any, Any, list[str]]]
    stop: Callable[[], None]


class Requests:
    """Answers requests by their verb, `do`."""

    def __init__(self, parts: Parts, actions: Actions) -> None:
        self._parts = parts
        self._actions = actions
        self._changes: dict[str, Callable[[Request], None]] = {
            "release": lambda request: parts.packet_path.unblocked(_source_in(request)),
            "blocked": self._blocked,
            "reconcile": lambda _: parts.guard.reconcile(),
            "protect": lambda _: parts.never_block.refresh_soon(),
            "stop": lambda _: actions.stop(),
        }
        self._streams: dict[str, Callable[[Request], Stream]] = {
            "list": self._list,
            "count": self._count,
            "kernel": lambda _: self._kernel(),
            "explain": self._explain,
            "today": self._today,
            "watch": lambda _: self._watch(),
            "sources": self._sources,
            "metrics": lambda _: _one(lambda: {"text": actions.figures()}),
            "fleet-outgoing": parts.fleet.outgoing,
            "fleet-incoming": parts.fleet.incoming,
            "fleet-part": parts.fleet.part,
            "fleet-drop": parts.fleet.drop,
            "fleet-release": parts.fleet.release,
            "fleet-positions": lambda _: _one(parts.fleet.positions),
            "config": lambda _: _one(lambda: {"config": parts.config.model_dump(mode="json")}),
        }
        self._waits: dict[str, Callable[[Request], Coroutine[Any, Any, Answer]]] = {
            "release-all": lambda _: self._release_all(),
            "reload": lambda _: self._reload(),
            "fleet-wait": parts.fleet.outbox.wait,
        }

    def answer(self, request: Request) -> Reply:
        """Return the answer, or a stream of them. Raise SentryError if the request is refused."""
        verb = request.get("do")
        if verb == "status":
            return self._actions.status().as_dict()
        if isinstance(verb, str) and verb in self._streams:
            return self._streams[verb](request)
        if isinstance(verb, str) and verb in self._waits:
            return self._waits[verb](request)
        if isinstance(verb, str) and verb in self._changes:
            self._changes[verb](request)
            return {}
        raise SentryError(f"unknown request {verb!r}")

    # --- changes, in the loop

    def _blocked(self, request: Request) -> None:
        """Start the reactions to a block that `sentryfw block` has made."""
        timeout = request.get("timeout")
        if not isinstance(timeout, int | float):
            raise SentryError("a block has a timeout in seconds")
        self._parts.responder.began(source_text(_source_in(request)), float(timeout))

    # --- changes that take time, in the loop

    async def _release_all(self) -> Answer:
        """Answer after the flush: a block that the caller makes next stays."""
        self._parts.packet_path.unblocked(None)
        await self._parts.guard.forget_all()
        return {}

    async def _reload(self) -> Answer:
        return {"changed": await self._actions.reload()}

    # --- streams, in the socket's thread

    def _list(self, request: Request) -> Stream:
        warnings: list[str] = []
        path = self._parts.config.paths.ledger
        with closing(Table()) as table:
            if "limit" in request:
                from sentryfw.query import newest  # noqa: PLC0415 - see above

                asked = newest.request_in(request)
                yield from newest.newest(table, path, asked, warnings.append)
            else:
                from sentryfw.query import listing  # noqa: PLC0415 - see above

                yield from listing.unordered(table, path, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _count(self, request: Request) -> Stream:
        from sentryfw.query import newest  # noqa: PLC0415 - see above

        warnings: list[str] = []
        wanted = newest.request_in(request).wanted
        with closing(Table()) as table:
            path = self._parts.config.paths.ledger
            yield {"count": newest.count(table, path, wanted, warnings.append)}
        yield from ({"warning": text} for text in warnings)

    def _kernel(self) -> Stream:
        with closing(Table()) as table:
            yield blocks.kernel_state(table)

    def _explain(self, request: Request) -> Stream:
        from sentryfw.query import explain  # noqa: PLC0415 - see above

        warnings: list[str] = []
        address = str(request.get("address"))
        with closing(Table()) as table:
            yield from explain.parts(self._parts.config, table, address, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _today(self, request: Request) -> Stream:
        from sentryfw.query.today import today  # noqa: PLC0415 - see above

        since, warnings = request.get("since"), list[str]()
        if not isinstance(since, int | float):
            raise SentryError("the scans of today begin at a time, in seconds since the epoch")
        found = today(self._parts.config.paths.ledger, float(since), warnings.append)
        if found is not None:
            yield {**found}
        yield from ({"warning": text} for text in warnings)

    def _watch(self) -> Stream:
        from sentryfw.query import watch  # noqa: PLC0415 - see above

        warnings: list[str] = []
        with closing(Table()) as table:
            yield from watch.parts(table, self._parts.config.paths.ledger, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _sources(self, request: Request) -> Stream:
        """Copy the tracker's references in the loop; rank the sources in the socket's thread."""
        from sentryfw.query import sources  # noqa: PLC0415 - see above

        count = sources.requested_count(request.get("top", sources.DEFAULT_COUNT))
        zones = self._parts.engine.zones.all
        snapshots = [sources.snapshot(zone.tracker, clock(), zone.name) for zone in zones]
        found = sources.nearest_of(snapshots, count)
        ledger = self._parts.config.paths.ledger
        return ({**item} for item in sources.with_refusals(found, ledger))


def control_server(parts: Parts, actions: Actions) -> ControlServer:
    """Return the server of the requests; with a fleet the link's user may carry its entries."""
    link = account.find(account.LINK_USER) if parts.fleet.is_on else None
    path = parts.config.paths.control
    return ControlServer(path, Requests(parts, actions).answer, link and link.uid)


def _one(make: Callable[[], Answer]) -> Stream:
    yield make()


def _source_in(request: Request) -> Source:
    try:
        text = str(request.get("address"))
        return parse_source(text if "/" in text else str(parse_address(text)))
    except ValueError as error:
        raise SentryError(str(error)) from None
