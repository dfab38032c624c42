"""Every command against a daemon that was taken over, which answers anything."""

import contextlib
import copy
import json
import math
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, get_type_hints

import pytest

from sentryfw.cli import answers
from sentryfw.cli.answers import StatusAnswer
from sentryfw.control.client import ANSWER_TIMEOUT_S
from sentryfw.errors import NoPrivilege
from support.fake_host import FakeHost
from support.fake_table import FakeTable
from support.inprocess import Stdio, Terminal, call

ADDRESS: Final = "198.51.100.7"
ESCAPE: Final = "\x1b[31mred\x1b]0;title\x07\u202e\x9b"
HOSTILE: Final = (
    ESCAPE, "", "x" * 5000, None, True, -1, 0, 1.5, (1 << 53) - 1, 10**300, 1e300, -1e15,
    math.nan, math.inf, [], {}, [[]], {ESCAPE: ESCAPE}, [ESCAPE, None], "2001:db8::/999", "é\n\n\t",
)  # fmt: skip
PROBE: Final = {
    "at": "2026-11-26T10:00:00.000000+0000", "kind": "syn", "target": "192.0.2.1 tcp/22",
    "listed": False, "forgeable": True,
}  # fmt: skip
DECISION: Final = {
    "id": "0-0", "at": PROBE["at"], "scan": "portscan", "kinds": ["syn"], "targets": 3, "probes": 3,
    "first_seen": PROBE["at"], "timeout_s": 3600.0, "offence": 1, "forgeable": True,
    "tool": "nmap", "zone": "", "reason": "3 targets", "evidence": [PROBE],
}  # fmt: skip
BLOCK: Final = {
    "address": ADDRESS, "family": "ipv4", "scan": "portscan", "kinds": ["syn"], "targets": 3,
    "probes": 3, "first_seen": PROBE["at"], "blocked_at": PROBE["at"], "timeout_s": 3600.0,
    "expires_in_s": 1800.0, "offence": 1, "forgeable": True, "tool": "nmap", "zone": "",
    "reason": "r", "decision": "block", "dropped_packets": 4, "dropped_bytes": 400, "host": "",
}  # fmt: skip
STATUS: Final = {
    "pid": 7, "started_at": 1.79e9, "compiled": True, "divert": "queue", "tracked_sources": 3,
    "flood": False, "engine": {"probes": 3}, "confine_paused": "", "lost_records": 1,
    "unkept_probes": 0, "blocked": 1,
    "queue": {"number": 5277, "max_len": 16384, "overruns": 0, "failures": 1},
    "overload": {"queue full": 1}, "faults": {"ledger": "disk full"},
    "reconciled": {"runs": 1, "at": 1.8e9, "kernel": 1, "seconds": 0.1, "fault": ""},
    "healed": {"count": 1, "last": 1.8e9, "by": "nft", "pid": 7, "took_ms": 1.0, "lacked": ["x"]},
    "unblocked_by_others": 0, "overruns": 0, "never_block": {"never_block": 2, "refreshed": 1},
    "reactions": {"mail": {"done": 1, "failed": 0, "waiting": 0}},
    "decoys": {"running": True, "visits": 1, "garbled": 0, "restarts": 0},
    "metrics": {"scrapes": 1, "fault": ""}, "reload": {"at": 1.8e9, "error": "no"},
}  # fmt: skip
HEAD: Final = {
    "address": ADDRESS, "source": ADDRESS, "family": "ipv4", "installed": True, "blocked": True,
    "because": "blocked", "timeout_s": 3600.0, "expires_in_s": 1.0, "dropped_packets": 1,
    "dropped_bytes": 1, "within": ["198.51.100.0/24"], "offences": 1, "partner": False,
    "never_block": [{"network": "198.51.100.0/24", "why": "x", "in_kernel": True}],
    "suspect": True, "confined": False,
    "members": [{"member": "fw2", "effect": "block", "evidence": "proven", "scan": "portscan",
                 "reason": "3 ports", "at": PROBE["at"], "ends_at": None}],
}  # fmt: skip
HONEST: Final[dict[str, list[dict[str, Any]]]] = {
    "status": [STATUS],
    "kernel": [{"installed": True, "divert": "queue", "divert_reason": "", "blocked4": 1,
                "blocked6": 0, "confined4": 0, "confined6": 0,
                "counters": {"judged": {"packets": 1, "bytes": 2}}}],
    "today": [{"since": PROBE["at"], "blocked": 2, "sources": 1, "not_blocked": {"partner": 1},
               "last": {"address": ADDRESS, "at": PROBE["at"], "scan": "portscan",
                        "kinds": ["syn"], "tool": "nmap", "outcome": "partner"}},
              {"warning": "the ledger is locked"}],
    "list": [BLOCK, {"warning": "the ledger is locked"}],
    "watch": [{"head": {"divert": "queue", "confined": 1,
                        "counters": {"judged": 3, "blocked_early": 1}}},
              {"block": BLOCK}, {"warning": "w"}],
    "sources": [{"address": ADDRESS, "progress": 0.6, "horizon": "window", "targets": 2,
                 "probes": 2, "kinds": ["syn"], "last": "t", "first_s": 1.0, "idle_s": 0.5,
                 "zone": ""}],
    "explain": [{"head": HEAD},
                {"blocks": {**DECISION, "state": "blocked", "ended_at": None, "capture": True,
                            "dropped_packets": 3}},
                {"refusals": {**DECISION, "rule": "partner"}}, {"probes": PROBE},
                {"reactions": {"reaction": "mail", "address": ADDRESS, "ok": True, "detail": "d",
                               "at": PROBE["at"], "seconds": 0.1}}],
    "metrics": [{"text": "sentryfw_up 1\n"}],
    "reload": [{"changed": ["detect.trigger"]}],
    "config": [{"config": {"detect": {"trigger": 4}}}],
}  # fmt: skip
COMMANDS: Final[dict[str, list[str]]] = {
    "status": ["status"], "status --json": ["status", "--json"],
    "status --all": ["status", "--all"], "list": ["list"],
    "list --json": ["list", "--json"], "explain": ["explain", ADDRESS],
    "explain --json": ["explain", ADDRESS, "--json"], "watch --once": ["watch", "--once"],
    "watch --once --json": ["watch", "--once", "--json"], "metrics": ["metrics"],
    "reload": ["reload"], "config diff": ["config", "diff"], "doctor": ["doctor"],
    "support-dump": ["support-dump", "-"],
}  # fmt: skip
RUNS: Final = 40
"""Wrong answers for each command."""

Answers = dict[str, list[Any]]


class TakenOver:
    """A server at the control socket that answers what a test gives it."""

    def __init__(self, path: Path) -> None:
        self.lines: Callable[[str], bytes] = lambda verb: _encoded(HONEST.get(verb, [{}]))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                verb = json.loads(client.makefile("rb").readline())["do"]
                client.sendall(self.lines(verb))

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


def _encoded(found: list[Any]) -> bytes:
    return "".join(json.dumps(answer) + "\n" for answer in [*found, {"end": True}]).encode()


@pytest.fixture
def reader(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A host on which the kernel is read by the daemon alone."""

    def refuse(*_: object) -> None:
        raise NoPrivilege("root only")

    for name in ("require", "is_installed"):
        monkeypatch.setattr(FakeTable, name, refuse)
    monkeypatch.setattr("sentryfw.cli.commands.watch.READ_INTERVAL_S", 0.0)
    monkeypatch.setattr("sentryfw.cli.commands.support_dump._ruleset", lambda: "")
    return host


@pytest.fixture
def daemon(reader: FakeHost) -> Iterator[TakenOver]:
    made = TakenOver(reader.settings.paths.control)
    yield made
    made.close()


def _run(host: FakeHost, words: list[str], *, terminal: bool) -> tuple[int, str]:
    stdio = Stdio(Terminal() if terminal else None)
    env = {"SENTRYFW_CONFIG": str(host.config), "PATH": "/usr/bin:/bin", "TERM": "dumb"}
    code = host.inside(lambda: call(words, env=env, program="sentryfw", stdio=stdio))
    return code, stdio.out.getvalue() + stdio.error.getvalue()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in an answer."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from _places(item, (*path, key))
        else:
            yield (*path, key)


def _spoilt(honest: Answers, random_: random.Random) -> Answers:
    """Return the answers with one to three values that are hostile, or absent."""
    made = copy.deepcopy(honest)
    for _ in range(random_.randint(1, 3)):
        verb = random_.choice(list(made))
        path = random_.choice([*_places(made[verb])] or [(0,)])
        place: Any = made[verb]
        try:
            for key in path[:-1]:
                place = place[key]
            if random_.random() < 0.25:
                del place[path[-1]]
            else:
                place[path[-1]] = random_.choice(HOSTILE)
        except (LookupError, TypeError):
            continue  # another value of this run has replaced it
    return made


def _check(name: str, code: int, text: str) -> None:
    assert 0 <= code < 128, (name, code)
    assert "Traceback" not in text, (name, text)
    printable = text.replace("\n", "").replace("\t", "")
    assert printable.isprintable(), (name, [c for c in printable if not c.isprintable()])


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_answer_ends_in_a_traceback_or_reaches_the_terminal(
    reader: FakeHost, daemon: TakenOver, name: str, *, terminal: bool
) -> None:
    random_ = random.Random(f"{name} {terminal}")
    for _ in range(RUNS):
        spoilt = _spoilt(HONEST, random_)
        daemon.lines = lambda verb, spoilt=spoilt: _encoded(spoilt.get(verb, [{}]))  # type: ignore[misc]
        code, text = _run(reader, COMMANDS[name], terminal=terminal)
        _check(name, code, text)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"nonsense\n", b"[]\n", b"1\n", b"null\n", b'"x"\n', b"{}\n", b"\xff\xfe\n",
        b'{"error": "\\u001b[31m"}\n', b'{"error": {"a": 1}, "code": "x"}\n',
        b'{"error": "e", "code": 99999}\n', b'{"a": ' + b"[" * 60_000 + b"\n",
        b'{"a": ' + b"9" * 60_000 + b"}\n", b'{"pid": 1}' + b" " * 100_000 + b"\n",
        b'{"warning": "\\u001b[2J"}\n{"end": true}\n', b'{"end": true}\n',
    ],
    ids=lambda line: repr(line[:24]),
)  # fmt: skip
def test_no_line_ends_in_a_traceback(
    reader: FakeHost, daemon: TakenOver, name: str, line: bytes
) -> None:
    daemon.lines = lambda _: line
    code, text = _run(reader, COMMANDS[name], terminal=False)
    _check(name, code, text)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_honest_answer_is_shown(reader: FakeHost, daemon: TakenOver, name: str) -> None:
    """The counterpart: the same answers without the hostile values are accepted."""
    code, text = _run(reader, COMMANDS[name], terminal=False)
    assert "not what this version expects" not in text
    assert code in {0, 6}, text  # 6: doctor misses what the fake kernel lacks
    shown = {"status": "7", "list": ADDRESS, "explain": "portscan", "watch": ADDRESS,
             "metrics": "sentryfw_up 1", "reload": "detect.trigger", "config": "detect.trigger",
             }.get(name.split(" ", 1)[0], "")  # fmt: skip
    assert shown in text


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for(
    reader: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    del reader
    from sentryfw.control.client import _Lines  # noqa: PLC0415

    ours, theirs = socket.socketpair()
    stopped = threading.Event()

    def drip() -> None:
        while not stopped.wait(0.05):
            with contextlib.suppress(OSError):
                theirs.send(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with ours, pytest.raises(TimeoutError):
            _Lines(ours, 0.3).next()
    finally:
        stopped.set()
        thread.join(5)
        theirs.close()
    assert ANSWER_TIMEOUT_S < 10


def test_the_status_of_a_daemon_has_no_key_that_is_left_out() -> None:
    from sentryfw.daemon.status import Status  # noqa: PLC0415

    source = Status.as_dict.__code__.co_consts
    keys = {key for consts in source if isinstance(consts, tuple) for key in consts}
    assert keys & STATUS.keys() <= get_type_hints(StatusAnswer).keys()
    assert answers.SHAPES["status"] == (StatusAnswer,)
