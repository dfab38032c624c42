"""The request that waits for entries."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.fleet import Fleet
from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet.outbox_wait import MAX_ENTRIES, OutboxWait
from sentryfw.daemon.fleet.sender import Sender
from sentryfw.errors import SentryError
from sentryfw.record.fleet import outbox
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.setup.fleet.signing_key import public_key

START = 1_800_000_000_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(paths=Paths(state=tmp_path), fleet=Fleet(name="fw1"))
    public_key(made)
    with Ledger(made.paths.ledger) as ledger:
        outbox.enable(ledger, START // 1000)
    return made


def block(config: Config, count: int = 1) -> None:
    with Ledger(config.paths.ledger) as ledger:
        ledger.add([manual_entry(f"192.0.2.{n + 1}", 4, 0.0, 1e9) for n in range(count)])


def waited(config: Config, after: int = 0, seconds: object = 30.0) -> dict[str, Any]:
    request = {"after": after, "seconds": seconds}
    return asyncio.run(OutboxWait(config, Sender(config)).wait(request))


def test_what_is_there_comes_at_once_and_in_parts(config: Config) -> None:
    block(config, MAX_ENTRIES + 5)
    found = waited(config)
    assert len(found["entries"]) == MAX_ENTRIES
    assert found["last"] == START + MAX_ENTRIES + 5
    rest = waited(config, found["entries"][-1]["seq"])
    assert len(rest["entries"]) == 5


def test_nothing_is_an_answer_after_a_while(config: Config) -> None:
    assert waited(config, seconds=0.05) == {"entries": [], "last": START}


def test_a_block_of_another_program_ends_the_waiting(config: Config) -> None:
    async def scenario() -> tuple[dict[str, Any], float]:
        wait = OutboxWait(config, Sender(config)).wait({"after": 0, "seconds": 30})
        task = asyncio.create_task(wait)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(block, config)
        begun = time.monotonic()
        return await task, time.monotonic() - begun

    found, seconds = asyncio.run(scenario())
    assert [item["seq"] for item in found["entries"]] == [START + 1]
    assert seconds < 4, "it did not wait for its own end"


@pytest.mark.parametrize("seconds", [None, True, 0, -1, "1", float("nan")])
def test_a_wrong_time_is_refused(config: Config, seconds: object) -> None:
    with pytest.raises(SentryError, match="seconds is how long"):
        waited(config, seconds=seconds)


@pytest.mark.parametrize("after", [None, -1, True, 1 << 60])
def test_a_wrong_number_is_refused(config: Config, after: Any) -> None:
    with pytest.raises(SentryError, match="after is the number"):
        waited(config, after)


def test_without_a_fleet_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SentryError, match="there is no fleet"):
        waited(Config(paths=Paths(state=tmp_path)))
