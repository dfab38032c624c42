"""The sandbox of the decoy process: what it gives up, by root or by the daemon's user."""

import json
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import wait_for

pytestmark = [pytest.mark.netns]  # it needs root
NOBODY = pwd.getpwnam("nobody")
SERVICE = [
    "setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups",
    "--inh-caps=+net_admin", "--ambient-caps=+net_admin",
]  # fmt: skip
"""The privileges of the daemon under its unit: a user of its own, and CAP_NET_ADMIN."""


def _run(code: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Return the command of a program that enters the sandbox, then runs the code."""
    start = "from sentryfw.decoy import sandbox\nimport errno, os, socket\n"
    lines = f"{start}sandbox.shed_capabilities()\nsandbox.enter(32, os.getppid())\n{code}"
    command = [*prefix, sys.executable, "-I", "-c", lines]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


STARTS = pytest.mark.parametrize("prefix", [(), tuple(SERVICE)], ids=["by-root", "by-the-service"])


@STARTS
def test_user_and_capabilities_are_given_up(prefix: tuple[str, ...]) -> None:
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    # The sandbox excludes /proc too, so the kernel is asked for the rest by number.
    code = (
        "import ctypes\n"
        "c = ctypes.CDLL(None)\n"
        "print([c.prctl(23, n, 0, 0, 0) for n in (0, 12, 21)], c.prctl(39, 0, 0, 0, 0),"
        " os.getresuid()[0] != 0, os.getgroups() in ([], [65534]))"
    )
    done = _run(code, *prefix)
    assert done.returncode == 0, done.stderr
    bounding, no_new_privs, *rest = re.findall(r"\[.*?\]|\w+", done.stdout)
    assert (no_new_privs, rest) == ("1", ["True", "True"])
    if not prefix:
        assert bounding == "[0, 0, 0]"


@STARTS
@pytest.mark.parametrize(
    "code",
    [
        "os.setresuid(0, 0, 0)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)",
        "socket.create_connection(('127.0.0.1', 9))",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "open('/etc/passwd')",
        "open('/tmp/sentryfw-decoy-test', 'w')",
    ],
)
def test_the_sandbox_refuses_the_operation(prefix: tuple[str, ...], code: str) -> None:
    done = _run(f"try:\n    {code}\nexcept OSError as error:\n    print(error)\n", *prefix)
    assert done.returncode == 0, done.stderr
    assert done.stdout, "it could"


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """Return a listener, and both ends of the report socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener, ours, theirs:
        yield listener, ours, theirs


@pytest.mark.parametrize("prefix", [[], SERVICE], ids=["by-root", "by-the-service"])
def test_the_process_runs_without_capabilities_and_ends_with_its_parent(
    listening: tuple[socket.socket, socket.socket, socket.socket], prefix: list[str]
) -> None:
    listener, _, theirs = listening
    words = {
        "parent": 0, "report": theirs.fileno(), "tcp": [listener.fileno()], "udp": [], "banner": "",
        "connections": 8, "timeout": 1.0, "hold": 0.0,
    }  # fmt: skip
    command = [*prefix, sys.executable, "-I", "-m", "sentryfw.decoy.server", json.dumps(words)]
    inherited = [theirs.fileno(), listener.fileno()]
    code = (
        f"import os, subprocess\ncommand = {command!r}\n"
        "command[-1] = command[-1].replace('\"parent\": 0', f'\"parent\": {os.getpid()}')\n"
        f"p = subprocess.Popen(command, pass_fds={inherited})\n"
        "print(p.pid, flush=True)\np.wait()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-I", "-c", code], pass_fds=inherited, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        wait_for(lambda: _is_idle(child), "it waits")
        status = dict(
            line.split(":", 1) for line in (child / "status").read_text().splitlines() if line
        )
        parent.kill()
        wait_for(lambda: not child.exists() or "Z" in _state(child), "it ended too")
    assert [int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Amb")] == [0, 0, 0]
    assert status["NoNewPrivs"].strip() == "1"
    assert set(status["Uid"].split()) == {str(NOBODY.pw_uid)}


def _state(child: Path) -> str:
    try:
        return (child / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def _is_idle(child: Path) -> bool:
    """Return whether it has given up its privileges, and waits."""
    text = (child / "status").read_text()
    return "NoNewPrivs:\t1" in text and _state(child) == "S" and "CapPrm:\t0000000000000000" in text
