"""Requests to the daemon whose answers have the shape that the commands expect.

A daemon that was taken over, or one of another version, may answer anything: a command ends with
one sentence then, not with a traceback. Keys that a command does not know are left out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

from sentryfw.control import client
from sentryfw.control.answers import fits, known
from sentryfw.control.client import Answer, Request
from sentryfw.distribution import service_command
from sentryfw.errors import SentryError
from sentryfw.query.blocks import BlockItem, KernelState


class QueueAnswer(TypedDict, total=False):
    """The packet queue in the status."""

    number: int
    max_len: int
    overruns: int
    failures: int


class DecoyAnswer(TypedDict, total=False):
    """The decoy process in the status."""

    running: bool
    visits: int
    garbled: int
    restarts: int


class ExportAnswer(TypedDict, total=False):
    """The exporter in the status."""

    scrapes: int
    fault: str


class ReloadAnswer(TypedDict, total=False):
    """The last reload in the status."""

    at: float
    error: str


class StatusAnswer(TypedDict, total=False):
    """The status: every key that daemon/status.py documents."""

    pid: int
    started_at: float
    compiled: bool
    mode: str
    divert: str
    tracked_sources: int
    flood: bool
    engine: dict[str, Any]
    confine_paused: str
    queue: QueueAnswer
    overload: dict[str, int]
    lost_records: int
    unkept_probes: int
    faults: dict[str, str]
    reconciled: dict[str, Any]
    healed: dict[str, Any]
    blocked: int
    unblocked_by_others: int
    overruns: int
    never_block: dict[str, int]
    reactions: dict[str, dict[str, int]]
    decoys: DecoyAnswer | None
    metrics: ExportAnswer | None
    fleet: dict[str, Any]
    reload: ReloadAnswer


class WarningAnswer(TypedDict):
    """A warning in a stream."""

    warning: str


class TextAnswer(TypedDict):
    """The metrics."""

    text: str


class ChangedAnswer(TypedDict):
    """The keys that a reload changed."""

    changed: list[str]


class ConfigAnswer(TypedDict):
    """The running configuration."""

    config: dict[str, Any]


def _shapes(verb: str) -> tuple[Any, ...]:
    """Return the shapes of the answers to a request; none: the answer is empty."""
    if verb == "watch":
        from sentryfw.query.watch import WatchPart  # noqa: PLC0415 - for its command alone

        return (WatchPart, WarningAnswer)
    if verb == "sources":
        from sentryfw.query.sources import SourceItem  # noqa: PLC0415

        return (SourceItem,)
    if verb == "count":
        from sentryfw.query.newest import CountAnswer  # noqa: PLC0415

        return (CountAnswer, WarningAnswer)
    if verb == "today":
        from sentryfw.query.today import Today  # noqa: PLC0415

        return (Today, WarningAnswer)
    if verb == "explain":
        from sentryfw.query.explain_items import ExplainPart  # noqa: PLC0415

        return (ExplainPart, WarningAnswer)
    return SHAPES.get(verb, ())


SHAPES: Final[dict[str, tuple[Any, ...]]] = {
    "status": (StatusAnswer,),
    "kernel": (KernelState,),
    "list": (BlockItem, WarningAnswer),
    "metrics": (TextAnswer,),
    "reload": (ChangedAnswer,),
    "config": (ConfigAnswer,),
}


def ask(path: Path, request: Request, timeout: float = client.ANSWER_TIMEOUT_S) -> Answer:
    """Call client.ask(), and check the answer."""
    return _checked(path, request, client.ask(path, request, timeout))


def ask_unprivileged(path: Path, request: Request) -> Answer:
    """Call client.ask_unprivileged(), and check the answer."""
    return _checked(path, request, client.ask_unprivileged(path, request))


def ask_stream(path: Path, request: Request) -> Iterator[Answer]:
    """Call client.ask_stream(), and check each answer."""
    for answer in client.ask_stream(path, request):
        yield _checked(path, request, answer)


def ask_stream_unprivileged(path: Path, request: Request) -> Iterator[Answer]:
    """Call client.ask_stream_unprivileged(), and check each answer."""
    for answer in client.ask_stream_unprivileged(path, request):
        yield _checked(path, request, answer)


def collect(path: Path, request: Request, warn: Callable[[str], None]) -> list[Answer]:
    """Return the answers of ask_stream_unprivileged(); its warnings go to `warn`."""
    found = []
    for answer in ask_stream_unprivileged(path, request):
        if "warning" in answer:
            warn(answer["warning"])
        else:
            found.append(answer)
    return found


def only(path: Path, answers: Iterator[Answer]) -> Answer:
    """Return the answer of a stream that has exactly one."""
    found = list(answers)
    if len(found) != 1:
        raise _unexpected(path)
    return found[0]


def _checked(path: Path, request: Request, answer: Answer) -> Answer:
    shapes = _shapes(str(request.get("do")))
    if not shapes:
        return answer
    for shape in shapes:
        if fits(answer, shape):
            return known(answer, shape)
    raise _unexpected(path)


def _unexpected(path: Path) -> SentryError:
    return SentryError(
        f"{path}: the daemon's answer is not what this version expects: restart the daemon"
        f" ({service_command('restart')})"
    )
