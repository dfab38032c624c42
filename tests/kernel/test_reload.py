"""A reload: all of another configuration, or none of it, while packets are judged."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sentryfw.errors import SentryError
from support.box import environment
from support.lab import (
    ATTACKER,
    BYSTANDER,
    UNLISTED,
    Lab,
    Sentry,
    drain,
)
from support.waiting import wait_for

pytestmark = pytest.mark.netns

StartDaemon = Callable[[str], Sentry]
RELOAD_TIMEOUT_S = 30.0


def configure(sentry: Sentry, settings: str) -> None:
    """Replace the configuration, with the daemon's own [paths]."""
    names = ("state", "runtime", "log")
    paths = "\n".join(f'{name} = "{sentry.home / name}"' for name in names)
    sentry.config.write_text(f"[paths]\n{paths}\n{settings}\n")


def reload(sentry: Sentry) -> list[str]:
    from sentryfw.control.client import ask  # noqa: PLC0415

    answer = ask(sentry.settings.paths.control, {"do": "reload"}, RELOAD_TIMEOUT_S)
    found: list[str] = answer["changed"]
    return found


def notes(sentry: Sentry, kind: str) -> list[dict[str, Any]]:
    return [e["sentryfw"] for e in sentry.events() if e["sentryfw"].get("event") == kind]


def crowd(lab: Lab) -> None:
    """Add foreign chains at prerouting, as many as the kernel takes."""
    lab.nft("add table inet crowd")
    made = 0
    hook = "{ type filter hook prerouting priority 300; }"
    for step in (100, 1):
        while True:
            chains = (f"add chain inet crowd c{made + n} {hook}" for n in range(step))
            done = lab.victim.run("nft", "\n".join(chains))
            if done.returncode:
                assert "Argument list too long" in done.stderr
                break
            made += step


def sentryfw(sentry: Sentry, *words: str) -> Any:
    command = [sentry.command[0].parent / "sentryfw", "-c", sentry.config, *words]  # type: ignore[union-attr]
    return sentry.lab.victim.run(*command, env=environment())


def test_blocks_evidence_and_process_outlast_it(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED[:2])
    drain(daemon)
    pid = daemon.status()["pid"]
    configure(daemon, '[watch]\nlisted_tcp = [7100]\n[block]\ntimeouts = ["2h"]')
    assert set(reload(daemon)) == {"watch.listed_tcp", "block.timeouts"}
    assert daemon.status()["pid"] == pid
    assert lab.is_blocked(ATTACKER[4])
    assert not lab.answers(ATTACKER[4])
    lab.probe(BYSTANDER[4], UNLISTED[2])  # the third target: two were seen before
    assert daemon.alert(BYSTANDER[4])["sentryfw"]["timeout_s"] == 7200
    assert daemon.status()["healed"]["count"] == 0, daemon.log()


def test_ports_that_it_lists_are_no_longer_judged(lab: Lab, daemon: Sentry) -> None:
    lab.probe(ATTACKER[4], UNLISTED[0])
    wait_for(lambda: lab.count("judged") == 1, "it is judged")
    configure(daemon, f"[watch]\nlisted_tcp = [{', '.join(map(str, UNLISTED))}]")
    reload(daemon)
    lab.probe(BYSTANDER[4], *UNLISTED)
    lab.probe(BYSTANDER[4], 7009)
    wait_for(lambda: lab.count("judged") == 2, "the unlisted one is judged")
    assert not lab.is_blocked(BYSTANDER[4])
    configure(daemon, "")
    reload(daemon)
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4])


def test_the_trigger_and_the_mode_are_the_new_ones(lab: Lab, daemon: Sentry) -> None:
    configure(daemon, '[detect]\ntrigger = 1\nmode = "observe"')
    assert set(reload(daemon)) == {"detect.trigger", "detect.mode"}
    lab.probe(ATTACKER[4], UNLISTED[0])
    assert daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["reason"] == "observe"
    configure(daemon, "[detect]\ntrigger = 1")
    reload(daemon)
    lab.probe(BYSTANDER[4], UNLISTED[0])
    daemon.alert(BYSTANDER[4])


def test_a_new_never_block_source_is_unblocked(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    configure(daemon, f'[never_block]\naddresses = ["{ATTACKER[4]}"]')
    reload(daemon)
    wait_for(lambda: not lab.is_blocked(ATTACKER[4]), "it is unblocked")
    lab.probe(ATTACKER[4], *UNLISTED)
    assert lab.answers(ATTACKER[4])
    configure(daemon, "[never_block]\npartners = false")  # it has finished a handshake
    reload(daemon)
    lab.probe(ATTACKER[4], *range(7010, 7014))
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "it is blocked again")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            "[detect]\ntrigger = 0\nwindoww = 1", ["detect.trigger", "'window'"], id="two"
        ),
        pytest.param("[queue]\nnumber = 9", ["queue.number needs a restart"], id="queue"),
        pytest.param('[never_block]\nfiles = ["/nowhere"]', ["/nowhere: No such"], id="file"),
        pytest.param('[metrics]\nlisten = "/nowhere/x"', ["/nowhere"], id="metrics"),
        pytest.param("[decoy]\ntcp = [7777]\nport = 8022", ["port 8022"], id="decoy"),
        pytest.param("detect = [", ["not TOML"], id="not TOML"),
    ],
)
def test_a_refused_configuration_changes_nothing(
    lab: Lab, daemon: Sentry, settings: str, words: list[str]
) -> None:
    lab.listen()
    before = lab.nft("-s", "list", "table", "inet", "sentryfw")
    configure(daemon, f"[block]\ntimeouts = [60]\n{settings}")
    with pytest.raises(SentryError) as caught:
        reload(daemon)
    assert all(word in str(caught.value) for word in words), caught.value
    assert lab.nft("-s", "list", "table", "inet", "sentryfw") == before
    state = daemon.status()["reload"]
    assert all(word in state["error"] for word in words)
    wait_for(lambda: notes(daemon, "reload-refused"), "an event")
    lab.probe(ATTACKER[4], *UNLISTED)
    assert daemon.alert(ATTACKER[4])["sentryfw"]["timeout_s"] == 3600
    configure(daemon, "")
    assert reload(daemon) == []
    assert daemon.status()["reload"]["error"] == ""


def test_a_table_that_cannot_be_made_leaves_the_old_one(lab: Lab, daemon: Sentry) -> None:
    """The file is without fault; the kernel refuses: a hook takes 1,024 chains, and others have
    taken all (net/netfilter/core.c, MAX_HOOK_COUNT)."""
    before = lab.nft("-s", "list", "table", "inet", "sentryfw")
    crowd(lab)
    configure(daemon, "[decoy]\ntcp = [7777]\n[block]\ntimeouts = [60]")
    with pytest.raises(SentryError, match="cannot install the table: nft refused"):
        reload(daemon)
    assert lab.nft("-s", "list", "table", "inet", "sentryfw") == before
    assert daemon.status()["decoys"] is None
    lab.probe(ATTACKER[4], *UNLISTED)
    assert daemon.alert(ATTACKER[4])["sentryfw"]["timeout_s"] == 3600


def test_sighup_reloads_and_a_second_one_too(lab: Lab, daemon: Sentry) -> None:
    configure(daemon, "[detect]\ntrigger = 1")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: notes(daemon, "reload"), "an event")
    lab.probe(ATTACKER[4], UNLISTED[0])
    daemon.alert(ATTACKER[4])
    configure(daemon, "[detect]\ntrigger = 0")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: notes(daemon, "reload-refused"), "an event")
    assert "detect.trigger" in daemon.log()
    assert daemon.process.poll() is None


def test_decoys_come_and_go(lab: Lab, daemon: Sentry) -> None:
    configure(daemon, "[decoy]\ntcp = [7777]")
    reload(daemon)
    lab.open(ATTACKER[4], 7777).close()
    daemon.alert(ATTACKER[4])
    configure(daemon, '[decoy]\ntcp = [7778]\nbanner = "hello"')
    reload(daemon)
    client = lab.open(BYSTANDER[4], 7778)
    assert client.recv(5) == b"hello"
    daemon.alert(BYSTANDER[4])
    configure(daemon, "")
    reload(daemon)
    assert daemon.status()["decoys"] is None


def test_reactions_come_and_go(lab: Lab, daemon: Sentry) -> None:
    history = daemon.home / "log" / "history"
    wanted = f'[respond.history]\nformat = "portsentry2"\npath = "{history}"\n'
    configure(daemon, wanted + "[respond.route]\nenabled = true")
    reload(daemon)
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: history.exists() and ATTACKER[4] in history.read_text(), "a line of history")

    def routes() -> str:
        return lab.victim.run("ip", "route", "show", "proto", "83").stdout

    wait_for(lambda: ATTACKER[4] in routes(), "a route")
    configure(daemon, wanted)
    reload(daemon)
    wait_for(lambda: routes() == "", "no route")
    lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: BYSTANDER[4] in history.read_text(), "a line of history")
    configure(daemon, "[respond.route]\nenabled = true")
    reload(daemon)
    wait_for(lambda: ATTACKER[4] in routes() and BYSTANDER[4] in routes(), "routes of all blocks")


def resets(lab: Lab) -> int:
    """Return the resets that the victim has sent, from ports that are not watched."""
    listing = json.loads(lab.nft("-j", "list", "counter", "inet", "watcher", "resets"))
    return int(listing["nftables"][-1]["counter"]["packets"])


@pytest.mark.serial
def test_nothing_passes_unjudged_while_the_table_is_changed(lab: Lab, daemon: Sentry) -> None:
    """A probe is judged, or, in the moment without a queue rule, dropped: it is sent again."""
    sources = []
    lab.nft(
        "add table inet watcher; add counter inet watcher resets;"
        " add chain inet watcher output { type filter hook output priority 0; };"
        " add rule inet watcher output tcp flags rst counter name resets"
    )
    with ThreadPoolExecutor(1) as beside:
        port = 8100
        while len(sources) <= 20:  # a reload takes some milliseconds
            port += 1
            configure(daemon, f"[watch]\nlisted_tcp = [{port}]")
            going_on = beside.submit(reload, daemon)
            while not going_on.done():
                if len(sources) < 240:
                    sources.append(f"198.18.0.{10 + len(sources)}")
                    lab.probe(sources[-1], *UNLISTED)
                    drain(daemon)
            assert going_on.result() == ["watch.listed_tcp"]
    drain(daemon)
    for source in sources:
        if not lab.is_blocked(source):
            lab.probe(source, *UNLISTED)
    wait_for(lambda: all(map(lab.is_blocked, sources)), "all of them are blocked")
    assert resets(lab) == 0
    lab.probe(ATTACKER[4], port)  # listed by hand, without a listener
    wait_for(lambda: resets(lab) == 1, "a reset, where none is due to us")


def test_the_command_reports_the_changes_or_the_faults(daemon: Sentry) -> None:
    configure(daemon, "[detect]\ntrigger = 4")
    done = sentryfw(daemon, "reload")
    assert (done.returncode, done.stdout) == (0, "reloaded: detect.trigger\n"), done.stderr
    (daemon.home / "conf.d").mkdir()
    drop_in = daemon.home / "conf.d" / "10-queue.toml"
    drop_in.write_text("[queue]\nmax_len = 128\n")
    done = sentryfw(daemon, "reload")
    assert done.returncode == 78
    assert f"{drop_in}: queue.max_len needs a restart" in done.stderr
    assert "refused: the daemon keeps its present configuration" in done.stderr
    drop_in.write_text("[queue]\nmax_len = 1\n")
    done = sentryfw(daemon, "reload")
    assert done.returncode == 78
    assert f"{drop_in}: queue.max_len: " in done.stderr


def test_differences_from_the_running_daemon_are_shown(daemon: Sentry) -> None:
    configure(daemon, '[detect]\nwindow = "10m"')
    done = sentryfw(daemon, "config", "diff", "--json")
    found = json.loads(done.stdout)
    assert [(row["key"], row["running"], row["value"]) for row in found["running"]] == [
        ("detect.window", "5m", "10m")
    ]
    reload(daemon)
    found = json.loads(sentryfw(daemon, "config", "diff", "--json").stdout)
    assert found["running"] == []
    assert [row["key"] for row in found["defaults"] if row["key"][:6] != "paths."] == [
        "detect.window"
    ]


def test_a_key_that_is_set_is_in_use_or_nothing_has_changed(lab: Lab, daemon: Sentry) -> None:
    place = daemon.config.parent / "conf.d" / "99-set.toml"
    done = sentryfw(daemon, "config", "set", "block.timeouts", "2h", "1d")
    assert done.returncode == 0, done.stderr
    assert "reloaded: block.timeouts" in done.stdout
    written = place.read_text()
    refused = sentryfw(daemon, "config", "set", "queue.number", "7")
    assert refused.returncode == 78
    assert "queue.number needs a restart" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert place.read_text() == written
    done = sentryfw(daemon, "config", "unset", "block.timeouts")
    assert "reloaded: block.timeouts" in done.stdout
