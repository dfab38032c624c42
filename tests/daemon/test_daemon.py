"""The daemon: its parts as fakes, and the process with its imports, memory and exit codes."""

import asyncio
import os
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentryfw import config as sentryfw_config
from sentryfw.control.client import ask
from sentryfw.daemon import daemon as daemon_module
from sentryfw.daemon import reload
from sentryfw.daemon.daemon import Daemon
from sentryfw.daemon.parts import make_engine
from sentryfw.daemon.reload import Captures, Reloaded
from sentryfw.engine.networks import NO_NETWORKS
from sentryfw.errors import SentryError
from sentryfw.host.protected import Protected, ProtectedNetworks
from sentryfw.netlink.conntrack import Flows
from sentryfw.record.captures import RecentProbes
from sentryfw.tools.drill.namespace import Namespace
from support.box import AS_UNPRIVILEGED, BIN, Box, environment

HEAVY = {"typer", "click", "rich", "scapy", "nftables"}
"""For people and for forging; libnftables' work is done in a child."""
MAX_RSS_KIB = 40 * 1024


@pytest.fixture
def box() -> Iterator[Box]:
    with Box() as made:
        yield made


@pytest.mark.netns
def test_the_module_graph_has_neither_typer_nor_rich_nor_scapy(namespace: Namespace) -> None:
    code = "import sys, sentryfw.daemon.main, sentryfw.daemon.daemon; print(*sys.modules)"
    done = namespace.run(sys.executable, "-P", "-c", code)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "sentryfw" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.netns
def test_idle_it_holds_at_most_40_mib(box: Box) -> None:
    daemon = box.start_daemon()
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    _, size, unit = line.split()
    assert unit == "kB"
    assert int(size) <= MAX_RSS_KIB


@pytest.mark.netns
def test_a_second_daemon_names_the_first_and_ends_in_1(box: Box) -> None:
    first = box.start_daemon()
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 1
    assert f"pid {first.pid}" in done.stderr
    assert first.poll() is None


@pytest.mark.netns
def test_a_wrong_configuration_ends_in_78(box: Box) -> None:
    box.configure("[detect]\ntrigger = 0\nwindoww = 1")
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 78
    assert "detect.trigger" in done.stderr
    assert "did you mean 'window'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.netns
def test_the_configuration_is_named_by_the_environment(box: Box) -> None:
    box.configure("nonsense = 1")
    env = environment({"SENTRYFW_CONFIG": str(box.config)})
    done = box.namespace.run(BIN / "sentryfwd", env=env)
    assert done.returncode == 78
    assert str(box.config) in done.stderr


@pytest.mark.netns
def test_without_root_it_ends_in_4(box: Box) -> None:
    done = box.namespace.run(
        *AS_UNPRIVILEGED, BIN / "sentryfwd", "-c", box.config, env=environment()
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


@pytest.mark.netns
def test_a_foreign_table_ends_in_1_and_stays(box: Box) -> None:
    box.nft("add table inet sentryfw; add chain inet sentryfw theirs")
    before = box.ruleset()
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 1
    assert "did not make" in done.stderr
    assert "Traceback" not in done.stderr
    assert box.ruleset() == before


# --- without a kernel


class Fake:
    """A part that notes its calls, and has the attributes that it is given."""

    def __init__(self, name: str, calls: list[str], **attributes: Any) -> None:
        self.__dict__.update(attributes, _name=name, _calls=calls)

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):
            raise AttributeError(method)

        def call(*arguments: object, **_: object) -> None:
            first = f" {arguments[0]}" if method == "note" else ""
            self._calls.append(f"{self._name}.{method}{first}")

        return call


class Faked:
    """A daemon whose parts are fakes, in a directory of its own."""

    def __init__(self, home: Path, text: str = "") -> None:
        self.calls: list[str] = []
        paths = f'[paths]\nstate = "{home}"\nruntime = "{home}"\nlog = "{home}"\n'
        self.config = sentryfw_config.parse(f"{paths}{text}".encode(), "test")
        self.pipe = os.pipe()
        reader = self._fake(
            "reader", received=0, skipped=0, failures=0, overruns=0, is_drained=True
        )
        engine = make_engine(self.config, NO_NETWORKS)
        mirrored = SimpleNamespace(need_proof=False, proven=set())
        responder = self._fake("responder", status=dict, mirrored=mirrored)
        self.packet_path = self._fake("packet_path", engine=engine, responder=responder)
        guard_status = {
            "blocked": 0, "unblocked_by_others": 0, "overruns": 0, "healed": {"count": 0},
            "reconciled": {"runs": 0},
        }  # fmt: skip
        self.parts: Any = SimpleNamespace(
            config=self.config, divert="queue", engine=engine, packet_path=self.packet_path,
            responder=responder,
            table=self._fake("table", counter=lambda _: None),
            ledger=SimpleNamespace(fault="", moved_aside=[], lost=0, trimmed=0),
            events=self._fake("events", fault=""),
            recorder=self._fake("recorder", lost=0, unkept=0),
            guard=self._fake(
                "guard", status=lambda: guard_status,
                memory=SimpleNamespace(ends=SimpleNamespace(items=list)),
            ),
            never_block=self._fake("never_block", protected=[], refreshed=0, host_changes=0),
            decoys=self._fake("decoys", decoys=None),
            relisting=self._fake("relisting"),
            flow_loss=self._fake("flow_loss", flows=Flows(0, 0)),
            confine=self._fake("confine", obstacle="", full={}),
            room=self._fake("room"), listed_scans=self._fake("listed_scans"),
            fleet=self._fake(
                "fleet", is_on=False, crowdsec=None, repaired=lambda _: False,
                outgoing=list, incoming=list, drop=list, positions=dict,
                outbox=self._fake("outbox", wait=list),
            ),
            queue=self._fake("queue", reader=reader, fileno=lambda: self.pipe[0]),
        )  # fmt: skip

    def _fake(self, name: str, **attributes: Any) -> Any:
        return Fake(name, self.calls, **attributes)

    def run(self, during: Any = None) -> None:
        """Run the daemon; `during(daemon)` is awaited when it is ready, then it is stopped."""

        async def run() -> None:
            daemon = Daemon(self.parts, None)
            ready = asyncio.Event()
            running = asyncio.create_task(daemon.run(before_ready=ready.set))
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                await running  # it failed
            self.calls.append("ready")
            if during is not None:
                await during(daemon)
            socket = self.config.paths.control
            await asyncio.get_running_loop().run_in_executor(None, ask, socket, {"do": "stop"})
            await running

        asyncio.run(run())


def test_the_parts_start_and_stop_in_order(tmp_path: Path) -> None:
    faked = Faked(tmp_path)
    faked.run()
    started = faked.calls.index("ready")
    assert faked.calls[:started] == [
        "guard.on_switched_off", "recorder.start", "responder.start", "decoys.start", "guard.start",
        "never_block.start", "confine.tick", "recorder.note start",
    ]  # fmt: skip
    assert faked.calls[started + 1 :] == [
        "decoys.stop", "never_block.close", "relisting.close", "room.close",
        "listed_scans.close", "flow_loss.close", "guard.close", "queue.close", "decoys.close",
        "table.close", "responder.stop", "recorder.note stop", "recorder.stop",
    ]  # fmt: skip
    assert not faked.config.paths.control.exists()


def test_a_tick_reaches_every_part_and_feeds_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[str] = []
    monkeypatch.setattr(daemon_module, "TICK_S", 0.01)
    monkeypatch.setattr(daemon_module, "notify", states.append)
    faked = Faked(tmp_path)

    async def wait(_: Daemon) -> None:
        async with asyncio.timeout(20):  # a tick that fails feeds no watchdog
            while "WATCHDOG=1" not in states:  # noqa: ASYNC110 - the fake has no event
                await asyncio.sleep(0.01)

    faked.run(wait)
    ticks = [call for call in faked.calls if call.endswith(".tick") or call == "reader.receive"]
    assert ticks[:10] == [
        "confine.tick", "confine.tick", "guard.tick", "never_block.tick", "relisting.tick",
        "room.tick", "packet_path.tick", "listed_scans.tick", "flow_loss.tick", "reader.receive",
    ]  # fmt: skip
    assert states[0] == "READY=1"
    assert states[-1] == "STOPPING=1"


def test_a_reload_is_applied_by_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked = Faked(tmp_path)
    network = ip_network("192.0.2.0/24")
    wanted = faked.config.model_copy(
        update={"detect": faked.config.detect.model_copy(update={"trigger": 9})}
    )
    mirrored = SimpleNamespace(need_proof=False)
    responder: Any = Fake("new responder", faked.calls, status=dict, mirrored=mirrored)
    recent = RecentProbes(1)

    async def build(*_: object) -> Reloaded:
        faked.calls.append("built")
        return Reloaded(
            changed=["detect.trigger"], config=wanted,
            protected=ProtectedNetworks.of([Protected(network, "test")]), divert="xt",
            responder=responder,
            captures=Captures(None, recent),
        )  # fmt: skip

    monkeypatch.setattr(reload, "build", build)

    async def during(daemon: Daemon) -> None:
        assert await daemon.reload() == ["detect.trigger"]
        assert daemon.status().reload.error == ""

    faked.run(during)
    begin = faked.calls.index("built")
    assert faked.calls[begin : begin + 14] == [
        "built", "packet_path.follow_zones", "packet_path.protect", "guard.reconfigure",
        "fleet.reconfigure", "never_block.reconfigure", "recorder.use_limits",
        "events.use_limits", "recorder.use_captures",
        "responder.withdraw", "responder.stop", "new responder.restore",
        "new responder.start", "recorder.note reload",
    ]  # fmt: skip
    assert faked.parts.config is wanted
    assert faked.parts.divert == "xt"
    assert faked.packet_path.recent is recent
    assert faked.packet_path.responder is responder
    assert faked.parts.engine.tracker.horizons.trigger == 9


def test_a_refused_reload_changes_nothing_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked = Faked(tmp_path)

    async def build(*_: object) -> Reloaded:
        raise SentryError("no")

    monkeypatch.setattr(reload, "build", build)

    async def during(daemon: Daemon) -> None:
        loaded_at = daemon.status().reload.at
        with pytest.raises(SentryError, match="no"):
            await daemon.reload()
        assert daemon.status().reload.error == "no"
        assert daemon.status().reload.at == loaded_at

    faked.run(during)
    assert faked.parts.config is faked.config
    assert "recorder.note reload-refused" in faked.calls
    assert "packet_path.protect" not in faked.calls


def test_status_is_answered_over_the_socket(tmp_path: Path) -> None:
    faked = Faked(tmp_path)

    async def during(_: Daemon) -> None:
        faked.parts.engine.counters.probes["syn"] += 1
        loop, control = asyncio.get_running_loop(), faked.config.paths.control
        answer = await loop.run_in_executor(None, ask, control, {"do": "status"})
        assert answer["engine"] == {"floods": 0, "syn": 1}
        assert answer["pid"] == os.getpid()

    faked.run(during)
