"""status and doctor, in each state the host can be in."""

import json
import re
import shutil
import time
from datetime import datetime

import pytest

from sentryfw import __version__
from sentryfw.netfilter import features
from support.box import Box
from support.fake_host import FakeHost
from support.host import Host

KEYS = {
    "version", "installed", "daemon", "divert", "blocked4", "blocked6", "tracked_sources",
    "flood", "counters", "queue",
}  # fmt: skip
CHECKS = {
    "libnftables", "nftables inet tables", "queue statement", "xt NFQUEUE target",
    "socket expression", "fib expression", "ct expression", "limit expression", "divert",
    "table", "daemon", "conntrack",
}  # fmt: skip


def status(host: Host) -> tuple[int, dict[str, object]]:
    done = host.sentryfw("status", "--json")
    return done.returncode, json.loads(done.stdout)


def test_not_installed(bare_host: FakeHost) -> None:
    code, said = status(bare_host)
    assert code == 5
    assert said.keys() >= KEYS
    assert (said["installed"], said["daemon"], said["divert"]) == (False, "stopped", None)
    assert said["version"] == __version__


def test_installed_and_stopped(any_host: Host) -> None:
    any_host.sentryfw("block", "203.0.113.7")
    any_host.sentryfw("block", "203.0.113.128/25")
    any_host.sentryfw("block", "2001:db8::1")
    code, said = status(any_host)
    assert code == 3
    assert said.keys() >= KEYS
    assert (said["installed"], said["daemon"]) == (True, "stopped")
    assert (said["blocked4"], said["blocked6"]) == (2, 1)


@pytest.mark.netns
def test_the_divert_is_what_the_kernel_has_in_chain_judge(installed: Box) -> None:
    _, said = status(installed)
    rule = installed.nft("list", "chain", "inet", "sentryfw", "judge")
    assert said["divert"] == ("queue" if "queue flags bypass" in rule else "xt-nfqueue")
    assert str(said["divert_reason"])


@pytest.mark.netns
def test_installed_and_running(box: Box) -> None:
    daemon = box.start_daemon()
    code, said = status(box)
    assert code == 0
    assert said.keys() >= KEYS
    assert (said["installed"], said["daemon"], said["pid"]) == (True, "running", daemon.pid)
    assert (said["tracked_sources"], said["flood"]) == (0, False)
    queue = said["queue"]
    assert isinstance(queue, dict)
    assert queue["number"] == box.settings.queue.number


@pytest.mark.netns
def test_a_daemon_that_was_killed_is_stopped(box: Box) -> None:
    daemon = box.start_daemon()
    daemon.kill()
    daemon.wait()
    code, said = status(box)
    assert (code, said["daemon"]) == (3, "stopped")


@pytest.mark.netns
def test_counters_count_what_the_kernel_counted(installed: Box) -> None:
    _, said = status(installed)
    counters = said["counters"]
    assert isinstance(counters, dict)
    names = installed.nft("-j", "list", "counters", "table", "inet", "sentryfw")
    kernel = {c["counter"]["name"] for c in json.loads(names)["nftables"] if "counter" in c}
    assert counters.keys() == kernel
    assert kernel


def test_to_a_pipe_it_is_pairs_to_a_terminal_sentences(host: FakeHost) -> None:
    piped = host.sentryfw("status").stdout
    pairs = dict(line.split("\t") for line in piped.splitlines())
    assert pairs["state"] == "NOT guarding: the daemon does not run"
    code, shown = host.on_terminal("status")
    assert code == 3
    assert "\t" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) <= 10
    title, first, *_ = shown.splitlines()
    assert title == f"SentryFW {__version__}"
    assert first == "state      NOT guarding: the daemon does not run"


def test_all_is_every_key_of_the_json(host: FakeHost) -> None:
    _, said = status(host)
    piped = host.sentryfw("status", "--all").stdout
    names = {line.partition("\t")[0].partition(".")[0] for line in piped.splitlines()}
    assert names == {name for name, value in said.items() if value != {}}


@pytest.mark.netns
def test_all_of_a_running_daemon_has_no_number_of_the_epoch(box: Box) -> None:
    box.start_daemon()
    piped = box.sentryfw("status", "--all").stdout
    assert re.search(r"\nreload\.at\t20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \S+\n", piped)
    assert not re.search(r"\b1[0-9]{9}\b", piped)


@pytest.mark.netns
def test_a_running_daemon_has_its_start_and_its_memory(box: Box) -> None:
    box.start_daemon()
    _, said = status(box)
    assert abs(datetime.fromisoformat(str(said["started_at"])).timestamp() - time.time()) < 120
    assert int(str(said["memory_bytes"])) > 8 << 20
    first, *_ = box.sentryfw("status").stdout.splitlines()
    assert first.startswith("state\tguarding since ")


def test_a_foreign_table_is_reported_and_ends_in_1(bare_host: FakeHost) -> None:
    bare_host.kernel.install(comment="")
    done = bare_host.sentryfw("status")
    assert done.returncode == 1
    assert "did not make" in done.stderr


@pytest.mark.netns
def test_doctor_checks_everything(installed: Box) -> None:
    done = installed.sentryfw("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings.keys() >= CHECKS
    assert ("nmap" in findings) == (shutil.which("nmap") is None)
    assert findings["table"]["state"] == "ok"
    assert findings["daemon"]["state"] == "warn"


@pytest.mark.netns
def test_doctor_of_a_host_without_the_table_warns(box: Box) -> None:
    done = box.sentryfw("doctor", "--json")
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings["table"]["state"] == "warn"
    assert "sentryfw install" in findings["table"]["detail"]


@pytest.mark.netns
def test_doctor_ends_in_6_where_the_kernel_lacks_something(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = features.probe
    monkeypatch.setattr(
        features, "probe", lambda: [item._replace(present=False) for item in probe()]
    )
    done = box.sentryfw("doctor", "--json")
    assert done.returncode == 6
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings["socket expression"]["state"] == "fail"
    assert "CONFIG_NFT_SOCKET" in findings["socket expression"]["detail"]
    assert "CONFIG_NFT_QUEUE" in findings["divert"]["detail"]
