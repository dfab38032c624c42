"""status and doctor, in each state the host can be in."""

import json
import shutil

import pytest

from sentryfw import __version__
from support.box import Box

pytestmark = pytest.mark.netns

KEYS = {
    "version", "installed", "daemon", "divert", "blocked4", "blocked6", "tracked_sources",
    "flood", "counters", "queue",
}  # fmt: skip
CHECKS = {
    "libnftables", "nftables inet tables", "queue statement", "xt NFQUEUE target",
    "socket expression", "fib expression", "ct expression", "limit expression", "divert",
    "table", "daemon", "conntrack",
}  # fmt: skip
NO_FEATURE = """
from sentryfw.netfilter import features
ask = features.probe
features.probe = lambda: [item._replace(present=False) for item in ask()]
"""


def status(box: Box) -> tuple[int, dict[str, object]]:
    done = box.sentryfw("status", "--json")
    return done.returncode, json.loads(done.stdout)


def test_not_installed(box: Box) -> None:
    code, said = status(box)
    assert code == 5
    assert said.keys() >= KEYS
    assert (said["installed"], said["daemon"], said["divert"]) == (False, "stopped", None)
    assert said["version"] == __version__


def test_installed_and_stopped(installed: Box) -> None:
    installed.sentryfw("block", "203.0.113.7")
    installed.sentryfw("block", "203.0.113.128/25")
    installed.sentryfw("block", "2001:db8::1")
    code, said = status(installed)
    assert code == 3
    assert said.keys() >= KEYS
    assert (said["installed"], said["daemon"]) == (True, "stopped")
    assert (said["blocked4"], said["blocked6"]) == (2, 1)


def test_the_divert_is_what_the_kernel_has_in_chain_judge(installed: Box) -> None:
    _, said = status(installed)
    rule = installed.nft("list", "chain", "inet", "sentryfw", "judge")
    assert said["divert"] == ("queue" if "queue flags bypass" in rule else "xt-nfqueue")
    assert str(said["divert_reason"])


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


def test_a_daemon_that_was_killed_is_stopped(box: Box) -> None:
    daemon = box.start_daemon()
    daemon.kill()
    daemon.wait()
    code, said = status(box)
    assert (code, said["daemon"]) == (3, "stopped")


def test_counters_count_what_the_kernel_counted(installed: Box) -> None:
    _, said = status(installed)
    counters = said["counters"]
    assert isinstance(counters, dict)
    names = installed.nft("-j", "list", "counters", "table", "inet", "sentryfw")
    kernel = {c["counter"]["name"] for c in json.loads(names)["nftables"] if "counter" in c}
    assert counters.keys() == kernel
    assert kernel


def test_to_a_pipe_it_is_pairs_to_a_terminal_a_table(installed: Box) -> None:
    piped = installed.sentryfw("status").stdout
    pairs = dict(line.split("\t") for line in piped.splitlines())
    assert (pairs["installed"], pairs["daemon"]) == ("yes", "stopped")
    code, shown = installed.on_terminal("status")
    assert code == 3
    assert "\t" not in shown
    assert "SentryFW" in shown
    assert "stopped" in shown


def test_a_foreign_table_is_said_and_ends_in_1(box: Box) -> None:
    box.nft("add table inet sentryfw")
    done = box.sentryfw("status")
    assert done.returncode == 1
    assert "did not make" in done.stderr


def test_doctor_looks_at_everything(installed: Box) -> None:
    done = installed.sentryfw("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings.keys() >= CHECKS
    assert ("nmap" in findings) == (shutil.which("nmap") is None)
    assert findings["table"]["state"] == "ok"
    assert findings["daemon"]["state"] == "warn"


def test_doctor_of_a_host_without_the_table_warns(box: Box) -> None:
    done = box.sentryfw("doctor", "--json")
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings["table"]["state"] == "warn"
    assert "sentryfw install" in findings["table"]["detail"]


def test_doctor_ends_in_6_where_the_kernel_lacks_something(box: Box) -> None:
    done = box.sentryfw("doctor", "--json", prelude=NO_FEATURE)
    assert done.returncode == 6
    findings = {item["check"]: item for item in json.loads(done.stdout)}
    assert findings["socket expression"]["state"] == "fail"
    assert "CONFIG_NFT_SOCKET" in findings["socket expression"]["detail"]
    assert "CONFIG_NFT_QUEUE" in findings["divert"]["detail"]
