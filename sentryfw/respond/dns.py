"""Reverse DNS: the names of addresses, from a resolver, with a deadline of our own.

A name must consist of letters, digits and hyphens, and is dropped otherwise: names are printed in
logs, mails and terminals.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sentryfw.config.respond import Dns
from sentryfw.errors import ReactionFailed
from sentryfw.host.dns_message import (
    BadAnswer,
    exchange,
    parse_answer,
    question,
    read_name,
    resolvers,
)
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import ReactionQueue, Report
from sentryfw.text import clean_name

PTR: Final = 12
RETRY_INTERVAL_S: Final = 30.0
"""Seconds without a query after no resolver answered."""
WORKER_COUNT: Final = 4
"""Threads that wait for answers."""
QUEUE_LIMIT: Final = 256
"""Incidents that may wait for their names; more continue without them."""
Address = IPv4Address | IPv6Address


def query(number: int, address: Address) -> bytes:
    """Return a query for the name of an address."""
    return question(number, address.reverse_pointer, PTR)


def answer_name(data: bytes, number: int) -> str:
    """Return the first valid host name in an answer; empty if there is none.

    Raise BadAnswer if the message does not answer this query.
    """
    for record in parse_answer(data, number).records:
        if record.kind == PTR:
            try:
                name = clean_name(read_name(data, record.start)[0])
            except IndexError:
                raise BadAnswer("the message is cut short") from None
            if name:
                return name
    return ""


class Resolver:
    """Looks up names of addresses, with a cache; safe for several threads."""

    def __init__(self, config: Dns) -> None:
        self._config = config
        self._cache: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def cached(self, address: str) -> str | None:
        """Return the name from the cache; empty: it has none; None: not in the cache."""
        with self._lock:
            found = self._cache.get(address)
            return found[1] if found and found[0] > time.monotonic() else None

    def resolve(self, address: str) -> str:
        """Return the name; empty: it has none. Raise ReactionFailed if no resolver answers."""
        known = self.cached(address)
        if known is not None:
            return known
        if time.monotonic() < self._silent_until:
            raise ReactionFailed("no resolver has answered recently: no query was sent")
        name = self._ask(ip_address(address))
        with self._lock:
            self._cache[address] = (time.monotonic() + self._config.keep, name)
            self._cache.move_to_end(address)
            while len(self._cache) > self._config.cache:
                self._cache.popitem(last=False)
        return name

    def _ask(self, address: Address) -> str:
        servers = [str(n.network_address) for n in self._config.servers] or resolvers()
        share = self._config.timeout / len(servers)
        problem = "no answer"
        for server in servers:
            try:
                return self._ask_server(server, address, share)
            except TimeoutError:
                problem = f"{server}: no answer within {share:g}s"
            except (OSError, BadAnswer) as error:
                problem = f"{server}: {error}"
        self._silent_until = time.monotonic() + RETRY_INTERVAL_S
        raise ReactionFailed(problem)

    def _ask_server(self, server: str, address: Address, timeout: float) -> str:
        number = secrets.randbelow(1 << 16)
        data = exchange(server, self._config.port, query(number, address), timeout)
        return answer_name(data, number)


class NameLookup:
    """Asks resolvers for names, in threads; an incident continues with its name, or without."""

    def __init__(
        self,
        config: Dns,
        report: Report,
        found: Callable[[str, str], None],
        go_on: Callable[[Incident], None],
    ) -> None:
        """`found`: called with (address, host); `go_on`: called with every incident, once."""
        self._config = config
        self._found = found
        self._go_on = go_on
        self._resolver = Resolver(config)
        self.queue = ReactionQueue(
            "dns", self._look_up, report, workers=WORKER_COUNT, limit=QUEUE_LIMIT, quiet=True
        )

    def with_known_name(self, incident: Incident) -> Incident:
        """Return the incident with the name of its address, if that is in the cache."""
        return incident._replace(host=self._resolver.cached(incident.ip) or "")

    def put(self, incident: Incident) -> bool:
        """Return whether the incident waits for its name: not if it is known, or too many wait."""
        return self._resolver.cached(incident.ip) is None and self.queue.put(incident)

    def _look_up(self, incident: Incident) -> str:
        host = ""
        try:
            if time.time() - incident.at > self._config.timeout:
                raise ReactionFailed("too many incidents wait for their names")
            host = self._resolver.resolve(incident.ip)
            if host:
                self._found(incident.address, host)
        finally:
            self._go_on(incident._replace(host=host))
        return host or "no name"
