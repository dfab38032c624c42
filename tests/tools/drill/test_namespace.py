"""Private namespaces: apart from the host, and gone with their maker."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.tools.drill.namespace import Namespace, add_address, connect, inside
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MAKER: Final = """
import signal
from sentryfw.tools.drill.namespace import Namespace
made = Namespace()
child = made.popen(["sleep", "1000"])
print(made.pid, child.pid, flush=True)
signal.pause()
"""


def _here() -> str:
    """The namespace this thread is in."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_a_namespace_is_not_the_host_s_and_has_lo_up(namespace: Namespace) -> None:
    assert str(namespace.path.readlink()) != _here()
    assert "UP,LOWER_UP" in namespace.ip("link", "show", "lo")
    assert namespace.ip("-brief", "link").count("\n") == 1


def test_commands_run_inside(namespace: Namespace) -> None:
    done = namespace.run("readlink", "/proc/self/ns/net")
    assert done.stdout.strip() == str(namespace.path.readlink())
    assert done.returncode == 0


def test_output_and_exit_code_of_a_command_are_returned(namespace: Namespace) -> None:
    done = namespace.run(
        "sh", "-c", "echo out; echo err >&2; echo $WORD; exit 3", env={"WORD": "x"}
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\nx\n", "err\n", 3)


def test_a_command_that_takes_too_long_is_killed(namespace: Namespace) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        namespace.run("sleep", "1000", timeout=0.1)
    assert namespace._processes[0].returncode == -signal.SIGKILL


def test_a_function_is_called_inside_and_the_thread_comes_back(namespace: Namespace) -> None:
    before = _here()
    assert namespace.call(_here) == str(namespace.path.readlink())
    assert _here() == before


def test_the_thread_comes_back_from_a_function_that_raises(namespace: Namespace) -> None:
    before = _here()
    with pytest.raises(ZeroDivisionError):
        namespace.call(lambda: 1 // 0)
    assert _here() == before


def test_no_descriptor_is_left_open(namespace: Namespace) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        namespace.call(_here)
        namespace.run("true")
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("left", "right"), [("198.18.0.1", "198.18.0.2"), ("2001:2::1", "2001:2::2")]
)
def test_connected_namespaces_reach_each_other_at_once(left: str, right: str) -> None:
    """IPv6 too: without waiting for duplicate address detection."""
    kind = socket.AF_INET6 if ":" in left else socket.AF_INET
    with Namespace() as here, Namespace() as there:
        connect(here, there, ("left0", "right0"))
        add_address(here, "left0", f"{left}/{64 if ':' in left else 24}")
        add_address(there, "right0", f"{right}/{64 if ':' in right else 24}")
        with (
            here.call(lambda: socket.socket(kind, socket.SOCK_DGRAM)) as receiver,
            there.call(lambda: socket.socket(kind, socket.SOCK_DGRAM)) as sender,
        ):
            receiver.bind((left, 7))
            receiver.settimeout(5)
            sender.sendto(b"hello", (left, 7))
            data, address = receiver.recvfrom(100)
    assert (data, address[0]) == (b"hello", right)


def test_an_error_of_ip_has_its_message(namespace: Namespace) -> None:
    with pytest.raises(SentryError, match=r"ip link show nothing0: .*does not exist"):
        namespace.ip("link", "show", "nothing0")


def test_closing_ends_what_runs_inside() -> None:
    made = Namespace()
    holder, child = made.path, made.popen(["sleep", "1000"])
    made.close()
    assert child.returncode == -signal.SIGKILL
    assert not holder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_nothing_is_left_when_the_maker_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", MAKER], stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        processes = [Path(f"/proc/{pid}") for pid in maker.stdout.readline().split()]
        assert [path.exists() for path in processes] == [True, True]
        maker.send_signal(number)
    wait_for(lambda: not any(_is_alive(path) for path in processes), "both processes end")


def _is_alive(process: Path) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        status = (process / "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_without_root_the_error_names_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoPrivilege, match="sudo"):
        Namespace()


def test_a_path_that_is_not_a_namespace_is_an_os_error(tmp_path: Path) -> None:
    before = _here()
    place = tmp_path / "net"
    place.touch()
    with pytest.raises(OSError, match="Invalid argument"):
        inside(place, _here)
    assert _here() == before
