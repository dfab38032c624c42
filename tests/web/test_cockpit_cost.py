"""The cost of the page in Cockpit: the first paint with many blocks, and an open page's share."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sentryfw.netfilter.block_sets import add_elements
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record.ledger import Ledger
from support.box import Box
from support.browser import Browser
from support.entries import BLOCK
from support.pages import Open, remember
from support.waiting import wait_for

pytestmark = [pytest.mark.web, pytest.mark.serial]

MANY: Final = 100_000
MEASURED_S: Final = 20.0
ARRIVALS: Final = 340
"""Blocks in MEASURED_S: a thousand a minute are 333."""
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


def block_many(box: Box, count: int) -> None:
    """Block sources in the kernel and in the ledger."""
    keys = [(10 << 24 | number).to_bytes(4, "big") for number in range(count)]
    with closing(box.inside(NfnetlinkSocket)) as netlink:
        add_elements(netlink, "block4", dict.fromkeys(keys, Lifetime(36000.0, 36000.0)))
    names = (".".join(map(str, key)) for key in keys)
    entry = BLOCK._replace(blocked_at=time.time(), timeout_s=36000.0)
    with Ledger(box.settings.paths.ledger) as ledger:
        ledger.add(entry._replace(address=name) for name in names)


def first_paint(page: Browser) -> float:
    """Load the page again; return the seconds until blocks and state are there."""
    page.run("location.reload()")
    ready = "return document.querySelector('#state strong') && document.querySelector('tbody tr')"
    wait_for(lambda: page.run(f"{ready} ? performance.now() : 0"), "the blocks are there", 60)
    return float(page.run("return performance.now()")) / 1000


def test_the_first_paint_does_not_grow_with_the_blocks(installed: Box, opened: Open) -> None:
    block_many(installed, 60)
    daemon = installed.start_daemon()
    page = opened()
    page.wait_text("tbody tr", "10.0.")
    few = min(first_paint(page) for _ in range(3))
    block_many(installed, MANY)
    many = min(first_paint(page) for _ in range(3))
    print(f"first paint: {few:.2f} s with 60 blocks, {many:.2f} s with {MANY:,}")
    daemon.terminate()
    daemon.wait()
    assert many < few + 0.5


def test_an_open_page_costs_little_and_does_not_grow(guarded: Box, opened: Open) -> None:
    page = opened()
    page.wait_text("[data-figure=today]", "0")
    servers = [process for process in _tree(os.getpid()) if _name(process) == "cockpit-ws"]
    assert len(servers) == 1
    wait_for(lambda: len(_commands(servers[0])) == 1, "only the stream runs", 30)
    before, heap = _cpu(servers[0]), _heap(page)
    began, made = time.monotonic(), 0
    while (passed := time.monotonic() - began) < MEASURED_S:
        if made < ARRIVALS * passed / MEASURED_S:
            address = f"203.0.{113 + made // 250}.{1 + made % 250}"
            guarded.add_block(address)
            remember(guarded, address)
            made += 1
        else:
            page.run("return 1")
    share = (_cpu(servers[0]) - before) / (time.monotonic() - began)
    grown = _heap(page) - heap
    print(f"an open page: {share:.2%} of a core, {grown / 1024:.0f} KiB more after {made} blocks")
    assert len(page.all("tbody tr")) == 50
    assert grown < 2 << 20
    assert share < 0.02


def _heap(page: Browser) -> int:
    page.run("window.gc()")
    return int(page.run("return performance.memory.usedJSHeapSize"))


def _commands(server: int) -> list[int]:
    return [process for process in _tree(server) if b"watch" in _read(process, "cmdline")]


def _cpu(server: int) -> float:
    """Return the seconds of a core that a server and its processes have used."""
    fields = [_read(process, "stat").rpartition(b")")[2].split() for process in _tree(server)]
    return sum(int(value) for stat in fields if stat for value in stat[11:13]) * TICK_S


def _tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    return [root, *(found for child in _children(root) for found in _tree(child))]


def _children(process: int) -> Iterator[int]:
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            yield from map(int, thread.read_text().split())
        except OSError:  # it has ended
            continue


def _name(process: int) -> str:
    return _read(process, "comm").decode().strip()


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""
