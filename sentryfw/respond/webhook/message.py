"""Messages of a webhook, and their shape for each service. Pure: values in, values out."""

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sentryfw.config.webhook import TOKEN, Webhook
from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.respond.incident import Incident
from sentryfw.text import plain

MAX_TEXT_CHARS: Final = 3500
"""Telegram and ntfy take 4096 characters or bytes."""


class Notice(NamedTuple):
    """An urgent event that is not about one source. The time is in seconds since the epoch."""

    kind: str
    text: str
    at: float


Event = Incident | Notice


class WebhookMessage(NamedTuple):
    """One message about several events."""

    host: str
    identity: str
    """Distinguishes messages; an attempt that is repeated has the same one."""
    events: list[Event]
    lost: int
    """Events that are only counted."""
    urgent: bool
    origins: Mapping[str, Origin] = MappingProxyType({})
    """Origins of the sources, by address, as far as they are known."""

    @property
    def sources(self) -> list[str]:
        """The sources of the incidents, each once."""
        return list(dict.fromkeys(e.address for e in self.events if isinstance(e, Incident)))

    def origin(self, incident: Incident) -> Origin:
        """Return the origin of an incident's source."""
        return self.origins.get(incident.address, NOWHERE)

    @property
    def title(self) -> str:
        """Return one line in ASCII."""
        incidents = [event for event in self.events if isinstance(event, Incident)]
        if len(self.events) == 1 and not self.lost:
            [event] = self.events
            what = f"{event.action} {event.address}" if isinstance(event, Incident) else event.kind
        else:
            blocked = sum(incident.action == "blocked" for incident in incidents)
            others = len(self.events) - len(incidents)
            what = f"{blocked} blocked, {len(incidents) - blocked} not blocked"
            what += f", {others} alerts" if others else ""
        text = f"SentryFW {self.host}: {what}"
        return text.encode("ascii", "replace").decode()

    @property
    def text(self) -> str:
        """Return a line for each event, as many as there is room for."""
        lines: list[str] = []
        left = MAX_TEXT_CHARS
        for event in self.events:
            origin = str(self.origin(event)) if isinstance(event, Incident) else ""
            line = f"{_time(event.at)} {_sentence(event)}" + (f" [{origin}]" if origin else "")
            left -= len(line.encode()) + 1
            if left < 0:
                break
            lines.append(line)
        more = len(self.events) - len(lines) + self.lost
        if more:
            lines.append(f"... and {more} more: `sentryfw list` and the ledger have all of them")
        return "\n".join(lines)


class HttpRequest(NamedTuple):
    """A request over HTTP."""

    method: str
    url: str
    headers: dict[str, str]
    body: str


def request_of(config: Webhook, token: str, message: WebhookMessage) -> HttpRequest:
    """Return the request that sends a message. `token`: empty without credentials."""
    base = config.place.replace(TOKEN, quote(token, safe="/:"))
    root = base.rstrip("/")
    bearer = {"Authorization": f"Bearer {token}"} if token and TOKEN not in config.place else {}
    both = f"{message.title}\n{message.text}"
    match config.shape:
        case "slack":
            return _json("POST", base, {"text": _escaped(both)}, {})
        case "ntfy":
            headers = {"Title": message.title, "Tags": "shield", **bearer}
            headers["Priority"] = "5" if message.urgent else "3"
            headers["Content-Type"] = "text/plain; charset=utf-8"
            return HttpRequest("POST", base, headers, message.text)
        case "gotify":
            body = {"title": message.title, "message": message.text}
            priority = {"priority": 8 if message.urgent else 4}
            return _json("POST", f"{root}/message", body | priority, {"X-Gotify-Key": token})
        case "telegram":
            url = f"{root}/bot{quote(token, safe=':')}/sendMessage"
            return _json("POST", url, {"chat_id": config.to, "text": both}, {})
        case "matrix":
            room, number = quote(config.to or "", safe=""), quote(message.identity, safe="")
            url = f"{root}/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}"
            return _json("PUT", url, {"msgtype": "m.text", "body": both}, bearer)
        case _:
            return _json("POST", base, _fields(message), bearer)


def _json(method: str, url: str, body: dict[str, Any], headers: dict[str, str]) -> HttpRequest:
    return HttpRequest(
        method, url, {"Content-Type": "application/json", **headers}, json.dumps(body)
    )


def _fields(message: WebhookMessage) -> dict[str, Any]:
    """Return the body of the shape json, which programs read."""
    incidents = [
        {**event._asdict(), "source": _source(event, message.origin(event))}
        for event in message.events
        if isinstance(event, Incident)
    ]
    notices = [event._asdict() for event in message.events if isinstance(event, Notice)]
    return {
        "host": message.host, "id": message.identity, "title": message.title,
        "text": message.text, "urgent": message.urgent, "incidents": incidents,
        "notices": notices, "lost": message.lost,
    }  # fmt: skip


def _source(incident: Incident, origin: Origin) -> dict[str, Any]:
    """Return the source as Elastic's Common Schema (ECS) names its fields, and its labels."""
    return {"ip": incident.ip, "domain": incident.host or None, **origin.item()}


def _sentence(event: Event) -> str:
    if isinstance(event, Notice):
        return plain(f"{event.kind}: {event.text}")
    inside = "inside: " if event.inside else ""
    proven = " (proven)" if event.action == "blocked" and not event.forgeable else ""
    return plain(f"{inside}{event.sentence()}{proven}")


def _escaped(text: str) -> str:
    """Return text without what Slack reads as a link or a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(at))
