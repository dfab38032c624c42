"""The JSON of every command against its schema in docs/schemas: the keys that stay.

`SENTRYFW_DOCS=write` adds what is new to the schemas; a key that is gone fails.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.record.fleet import held
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import ProbeRecord, Reaction
from support import origins
from support.api_schema import DRAFT, faults, merged, schema_of
from support.box import Box
from support.host import OWN
from support.pages import SCANNER, remember

SCHEMAS: Final = Path(__file__).resolve().parents[2] / "docs" / "schemas"
API: Final = SCHEMAS.parent / "api.md"
IS_WRITTEN: Final = os.environ.get("SENTRYFW_DOCS") == "write"
MAPS: Final = frozenset({
    ".counters", ".rates", ".engine", ".engine.*", ".overload", ".faults", ".reactions", ".scans",
    ".tools", ".kinds", ".families", ".countries", ".networks", ".labels",
    ".not_blocked", ".today.not_blocked", ".daemon.engine",
    ".daemon.engine.*", ".daemon.overload", ".daemon.faults", ".daemon.reactions", ".healed",
    ".reconciled", ".daemon.healed", ".daemon.reconciled", ".keys[].value", ".keys[].default",
    ".defaults[].value", ".defaults[].default", ".running[].value", ".running[].running",
    ".left_out", ".[].left_out", ".unreadable", ".members[].refused",
})  # fmt: skip
"""Objects whose keys are data, or not promised."""
FOREIGN: Final = "203.0.113.21"
"""A source blocked by the word of another member of a fleet."""
WORD: Final = held.Held(
    member="fw1", address=FOREIGN, effect="block", evidence="proven", scan="decoy-scan",
    reason="spoke with the decoy", seq=1, at=1_764_000_000.0, ends_at=None,
)  # fmt: skip
LIST: Final = "FILE"
"""Stands for a list in the host's directory."""
COMMANDS: Final = {
    "status": ("status",),
    "list": ("list",),
    "list-count": ("list", "--count"),
    "list-would-block": ("list", "--would-block"),
    "explain": ("explain", SCANNER),
    "report": ("report",),
    "watch": ("watch", "--once"),
    "allow-list": ("allow", "list", "--all"),
    "check": ("check",),
    "config-show": ("config", "show"),
    "config-diff": ("config", "diff"),
    "doctor": ("doctor",),
    "export": ("export", "--since", "1d"),
    "import": ("import", LIST, "--name", "drop", "--for", "1h"),
    "import-lists": ("import",),
}


def answers(box: Box, words: tuple[str, ...]) -> list[Any]:
    """Return the command's JSON with a daemon, without one, and without blocks."""
    found = [_answer(box, words)]
    daemon = box.start_daemon()
    box.add_block(SCANNER, "203.0.113.8")
    remember(box)
    remember(box, "203.0.113.9", reason="observe", blocked=False)
    remember(box, "203.0.113.10", reason="partner", blocked=False)
    with Ledger(box.settings.paths.ledger) as ledger:
        held.hold(ledger, [WORD])
    box.nft(f"add element inet sentryfw fleet4 {{ {FOREIGN} timeout 1h }}")
    box.sentryfw("block", "203.0.114.0/24", "--timeout", "forever")
    box.sentryfw("allow", "add", "192.0.2.1", "--until", "1h", "--comment", "a visitor")
    with Ledger(box.settings.paths.ledger) as ledger:
        now = time.time()
        ledger.add(
            [], [ProbeRecord("203.0.113.9", now, "syn", listed=False, target=f"{OWN} tcp/7")]
        )
        ledger.add_reactions(
            [Reaction("mail", SCANNER, ok=True, detail="", at=now, seconds=0.1)], []
        )
    others = (FOREIGN, "203.0.113.9", "192.0.2.1", "203.0.114.7") if words[0] == "explain" else ()
    found += [_answer(box, words), *(_answer(box, ("explain", other)) for other in others)]
    box.configure(f"[detect]\ntrigger = 4\n{origins.settings(box.home)}")
    found.append(_answer(box, words))
    if words[0] == "check":
        box.configure("[detect]\ntrigger = 'x'\n")
        found.append(_answer(box, words))
    daemon.terminate()
    daemon.wait()
    return found


def _answer(box: Box, words: tuple[str, ...]) -> Any:
    given = box.home / "list"
    given.write_text(f"203.0.113.20\n203.0.115.0/24\n{OWN}\n")
    if words == ("import",):  # what it shows has to be there
        box.sentryfw("import", str(given), "--name", "drop", "--for", "1h")
    done = box.sentryfw(*(str(given) if word == LIST else word for word in words), "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_of_a_command_meets_its_schema(installed: Box, name: str) -> None:
    title = f"sentryfw {' '.join(COMMANDS[name])} --json"
    _meet(name, title.replace(SCANNER, "ADDRESS"), answers(installed, COMMANDS[name]))


def _meet(name: str, title: str, found: list[Any]) -> None:
    """Assert that answers meet the schema of this name, or write it."""
    path = SCHEMAS / f"{name}.json"
    if IS_WRITTEN:
        made = json.loads(path.read_text()) if path.exists() else None
        for value in found:
            sample = schema_of(value, MAPS)
            made = sample if made is None else merged(made, sample)
        text = {"$schema": DRAFT, "title": title, **made}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(text, indent=1) + "\n")
    schema = json.loads(path.read_text())
    for value in found:
        assert faults(value, schema) == []


MEMBER: Final = f'[fleet.members.fw1]\nkey = "{"ab" * 32}"\n'
FLEETS: Final = (
    f'[fleet]\nname = "fw2"\n{MEMBER}',
    f'[fleet]\nname = "fw2"\n{MEMBER}[fleet.hub]\nurl = "redis://127.0.0.1:1"\n',
    '[fleet.crowdsec]\nurl = "http://127.0.0.1:1/"\ncredentials = "/nonexistent"\n',
)


def test_the_state_of_a_fleet_meets_its_schema(box: Box) -> None:
    found = []
    for settings in FLEETS:
        box.configure(settings)
        daemon = box.start_daemon()
        with Ledger(box.settings.paths.ledger) as ledger:
            held.hold(ledger, [WORD])
        told = {"last": {"fw1": 7, "fw2": 9}, "told": {"fw1": {"fw2": 8}}}
        box.settings.paths.link_status.parent.mkdir(exist_ok=True)
        box.settings.paths.link_status.write_text(json.dumps(told))
        found.append(_answer(box, ("fleet", "status")))
        daemon.terminate()
        daemon.wait()
    _meet("fleet-status", "sentryfw fleet status --json", found)
    assert {type(one["crowdsec"]) for one in found} == {dict, type(None)}
    assert [one["link"]["configured"] for one in found] == [False, True, False]


def test_every_schema_is_of_a_command_and_in_the_document() -> None:
    text = API.read_text()
    names = {path.stem for path in SCHEMAS.glob("*.json")}
    assert names == {*COMMANDS, "fleet-status"}
    assert [name for name in names if f"schemas/{name}.json" not in text] == []


def test_a_key_that_is_gone_new_or_of_another_type_is_a_fault() -> None:
    schema = schema_of({"a": 1, "b": [{"c": "x"}], "m": {"k": 1}}, frozenset({".m"}))
    assert faults({"a": 1, "b": [{"c": "x"}], "m": {"other": 2}}, schema) == []
    assert faults({"b": [], "m": {}}, schema) == [".a: missing"]
    assert faults({"a": 1, "b": [{"c": 1}], "m": {}}, schema) == [".b[].c: number, not string"]
    assert faults({"a": 1, "b": [], "m": {}, "z": 1}, schema) == [".z: unknown"]
