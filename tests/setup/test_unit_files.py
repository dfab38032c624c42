"""The unit as it is installed, its sandbox on this kernel, and the watchdog."""

import contextlib
import ctypes
import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.control.client import ask, ask_stream
from sentryfw.errors import SentryError
from sentryfw.host import account, inhibit
from sentryfw.setup import unit_files
from sentryfw.setup.unit_files import FILES, Service, rendered, template, word
from support import users
from support.box import BIN
from support.lab import ATTACKER, UNLISTED, Lab, Sentry
from support.waiting import wait_for

HERE: Final = Path(__file__).parent
MAX_EXPOSURE: Final = 2.0
"""`systemd-analyze security`; a unit without hardening has 9.6."""
ELSEWHERE: Final = Paths(state="/srv/fw/state", runtime="/run/fw", log="/srv/fw/log 50%")

MORE: Final = """
[watch]
listed_tcp = [7100]
[metrics]
listen = "127.0.0.1:9577"
[respond.route]
enabled = true
"""
"""The options of a reload under the sandbox."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def unit(paths: Paths | None = None, daemon: str = "/usr/bin/sentryfwd") -> str:
    config = Path("/etc/sentryfw/sentryfw.toml")
    return rendered(Service(Path(daemon), config, paths or Paths()))["sentryfw.service"]


def setting(text: str, name: str) -> list[str]:
    return [ln.partition("=")[2] for ln in text.splitlines() if ln.startswith(f"{name}=")]


# --- the unit


@needs_systemd
@pytest.mark.parametrize("paths", [None, ELSEWHERE], ids=["usual paths", "others"])
def test_its_exposure_is_at_most_2(tmp_path: Path, paths: Paths | None) -> None:
    """systemd's own score; 20 is 2.0."""
    path = tmp_path / "sentryfw.service"
    path.write_text(unit(paths))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager"]
    threshold = f"--threshold={int(MAX_EXPOSURE * 10)}"
    done = subprocess.run([*command, threshold, path], capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for sentryfw.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= MAX_EXPOSURE, done.stdout
    assert done.returncode == 0


@needs_systemd
@pytest.mark.parametrize("paths", [None, ELSEWHERE], ids=["usual paths", "others"])
def test_systemd_finds_no_fault_in_it(tmp_path: Path, paths: Paths | None) -> None:
    path = tmp_path / "sentryfw.service"
    path.write_text(unit(paths, daemon=str(BIN / "sentryfwd")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "sentryfw" in line]
    assert (done.returncode, said) == (0, [])


def test_every_token_is_filled_in() -> None:
    for text in rendered(Service(Path("/a"), Path("/b"), Paths())).values():
        assert re.findall(r"@\w*@", text) == []


def test_it_is_not_root_and_has_one_capability() -> None:
    text = unit()
    assert setting(text, "User") == setting(text, "Group") == ["sentryfw"]
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(text, name) == ["CAP_NET_ADMIN"]
    assert setting(text, "NoNewPrivileges") == ["yes"]


def test_it_gets_the_boot_id_that_its_sandbox_hides() -> None:
    assert setting(unit(), "ProcSubset") == ["pid"]
    assert setting(unit(), "Environment") == [f"{inhibit.BOOT_ID_GIVEN}=%b"]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, ["-sentryfwd"]),
        ({"paths": ELSEWHERE}, []),
        ({"writable": (Path("/var/lib/node"),)}, []),
        ({"config": Path("/home/op/fw.toml")}, []),
        ({"daemon": Path("/usr/local/bin/sentryfwd")}, []),
    ],
    ids=["packaged", "other paths", "a directory of another program", "home", "wheel"],
)
def test_the_profile_is_asked_for_where_it_allows_what_is_written(
    change: dict[str, Any], lines: list[str]
) -> None:
    home = Path("/usr/lib/sentryfw")
    packaged = Service(
        home / "bin" / "sentryfwd", Path("/etc/sentryfw/sentryfw.toml"), Paths(), prefix=home,
        python=Path("/usr/bin/python3"),
    )  # fmt: skip
    text = rendered(packaged._replace(**change))["sentryfw.service"]
    assert setting(text, "AppArmorProfile") == lines


def test_the_watchdog_has_time_for_a_notice_every_second() -> None:
    [seconds] = setting(unit(), "WatchdogSec")
    assert int(seconds) >= 10
    assert setting(unit(), "Type") == ["notify"]


def test_systemd_creates_the_default_directories() -> None:
    text = unit()
    for name in ("State", "Runtime", "Logs"):
        assert setting(text, f"{name}Directory") == ["sentryfw"]
        assert setting(text, f"{name}DirectoryMode") == ["0750"]
    assert setting(text, "ReadWritePaths") == []


def test_other_directories_are_named_as_writable() -> None:
    text = unit(ELSEWHERE)
    assert setting(text, "ReadWritePaths") == ['/srv/fw/state /run/fw "/srv/fw/log 50%%"']
    assert setting(text, "StateDirectory") == []


@needs_systemd
def test_the_directory_of_a_text_file_is_writable_and_may_be_missing(tmp_path: Path) -> None:
    places = (Path("/var/lib/prometheus/node-exporter"), Path("/srv/a b"))
    made = Service(BIN / "sentryfwd", Path("/etc/sentryfw/sentryfw.toml"), Paths(), places)
    text = rendered(made)["sentryfw.service"]
    assert setting(text, "ReadWritePaths") == ['-/var/lib/prometheus/node-exporter "-/srv/a b"']
    path = tmp_path / "sentryfw.service"
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "sentryfw" in line]
    assert (done.returncode, said) == (0, [])


def test_a_reload_waits_for_the_daemon() -> None:
    [command] = setting(unit(), "ExecReload")
    assert command == "/usr/bin/sentryfw --config /etc/sentryfw/sentryfw.toml reload"


@pytest.mark.parametrize(
    ("daemon", "protect"),
    [("/usr/bin/sentryfwd", "yes"), ("/home/me/venv/bin/sentryfwd", "read-only")],
)
def test_a_program_in_a_home_is_not_hidden_from_itself(daemon: str, protect: str) -> None:
    if any(Path(sys.prefix).is_relative_to(home) for home in unit_files.HOMES):
        protect = "read-only"
    assert setting(unit(daemon=daemon), "ProtectHome") == [protect]


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/etc/sentryfw.toml", "/etc/sentryfw.toml"),
        ("/etc/a b", '"/etc/a b"'),
        ("/etc/50%", '"/etc/50%%"'),
        ('/etc/"x"', '"/etc/\\"x\\""'),
        ("/etc/$HOME", '"/etc/$$HOME"'),
        ("/etc/a\\b", '"/etc/a\\\\b"'),
        ("/etc/ü", '"/etc/ü"'),
    ],
)
def test_a_path_stays_one_word(path: str, written: str) -> None:
    assert word(Path(path)) == written


@pytest.mark.parametrize("path", ["/etc/a\nExecStartPre=/bin/evil", "/etc/\x1b[31m", "/a\x00b"])
def test_a_path_with_control_characters_is_refused(path: str) -> None:
    with pytest.raises(SentryError, match="control characters"):
        word(Path(path))


def test_the_files_are_in_the_package() -> None:
    for name in FILES:
        assert template(name).startswith("#")


def test_the_boot_loads_no_module_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One missing module makes systemd-modules-load.service fail at each boot."""
    monkeypatch.setattr(unit_files, "_has_module", lambda line: line == "nft_queue\n")
    text = rendered(Service(Path("/a"), Path("/b"), Paths()))["modules-load.conf"]
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["nft_queue"]


# --- its sandbox, on this kernel


SECCOMP_KILL: Final = 0x80000000
SECCOMP_ALLOW: Final = 0x7FFF0000
SECCOMP_ERRNO: Final = 0x00050000
PR_SET_SECCOMP: Final = 22
PR_SET_MDWE: Final = 65
PR_SET_NO_NEW_PRIVS: Final = 38


def _group(name: str, seen: set[str] | None = None) -> set[str]:
    """The system calls in one of systemd's groups, with the groups in it."""
    seen = set() if seen is None else seen
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: set[str] = set()
    for line in map(str.strip, listed.splitlines()[1:]):
        if line.startswith("@") and line not in seen:
            seen.add(line)
            found |= _group(line, seen)
        elif line and line[0] not in "#@":
            found.add(line)
    return found


def _numbers() -> dict[str, int]:
    header = f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h"
    text = Path(header).read_text()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def _allowed(text: str) -> set[str]:
    """Return the system calls that SystemCallFilter= allows: the first list without the second,
    and the calls of the third."""
    [allowed, denied, again] = setting(text, "SystemCallFilter")
    calls = {call for name in allowed.split() for call in _group(name)}
    calls |= _group("@default")
    calls -= {call for name in denied.removeprefix("~").split() for call in _group(name)}
    return calls | set(again.split())


def _program(numbers: list[int]) -> bytes:
    """A BPF program: these system calls pass, any other ends the process."""
    load = struct.pack("=HBBI", 0x20, 0, 0, 0)  # BPF_LD|BPF_W|BPF_ABS: seccomp_data.nr
    allow = struct.pack("=HBBI", 0x06, 0, 0, SECCOMP_ALLOW)
    tests = b"".join(struct.pack("=HBBI", 0x15, 0, 1, number) + allow for number in numbers)
    return load + tests + struct.pack("=HBBI", 0x06, 0, 0, SECCOMP_KILL)


def _sandbox(program: bytes) -> Callable[[], None]:
    """Restrict a child process before it becomes the daemon."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))

    def enter() -> None:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)
        if libc.prctl(PR_SET_SECCOMP, 2, head, 0, 0):
            os._exit(99)

    enter.buffer = buffer  # type: ignore[attr-defined]
    return enter


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.mark.netns
@needs_systemd
def test_it_lives_within_its_system_calls(lab: Lab) -> None:
    """The daemon starts, blocks, lists, reloads and stops, with what the unit leaves
    it; a system call that it does not allow, or memory to write and execute, would end it."""
    numbers = _numbers()
    allowed = sorted(numbers[name] for name in _allowed(unit()) if name in numbers)
    assert len(allowed) > 200
    sentry = Sentry(lab)
    try:
        users.own(sentry.home)
        launcher = sentry.home / "launch.py"
        launcher.write_text(
            f"import os, sys\nsys.path[:0] = {[str(HERE), str(HERE.parent)]!r}\n"
            "from test_unit_files import _program, _sandbox\n"
            f"_sandbox(_program({allowed!r}))()\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n"
        )
        sentry.command = [
            *users.demoted("+net_admin"), sys.executable, launcher, *sentry.command,
        ]  # fmt: skip
        sentry.start()
        status = Path(f"/proc/{sentry.process.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        lab.probe(ATTACKER[4], *UNLISTED)
        sentry.alert(ATTACKER[4])
        with contextlib.closing(ask_stream(sentry.settings.paths.control, {"do": "list"})) as items:
            assert [item["address"] for item in items] == [ATTACKER[4]]
        with sentry.config.open("a") as file:
            file.write(MORE)
        asked = ask(sentry.settings.paths.control, {"do": "reload"}, 30)
        assert set(asked["changed"]) == {
            "watch.listed_tcp", "metrics.listen", "respond.route.enabled"
        }  # fmt: skip
        wait_for(lambda: lab.victim.run("ip", "route", "show", "proto", "83").stdout, "a route")
        with lab.victim.call(lambda: socket.create_connection(("127.0.0.1", 9577))) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        sentry.stop()
    finally:
        sentry.close()


@pytest.mark.netns
def test_systemd_is_notified_of_the_begin_and_end_of_a_reload(lab: Lab) -> None:
    sentry = Sentry(lab)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(sentry.home / "notify"))
        listener.settimeout(10)
        sentry.command = ["env", f"NOTIFY_SOCKET={sentry.home / 'notify'}", *sentry.command]
        try:
            sentry.start()
            assert listener.recv(4096) == b"READY=1"
            for text in ("", "nonsense"):
                with sentry.config.open("a") as file:
                    file.write(text)
                sentry.process.send_signal(signal.SIGHUP)
                said = iter(lambda: listener.recv(4096).decode(), "")
                begun = next(word for word in said if not word.startswith("WATCHDOG"))
                assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", begun)
                assert next(word for word in said if not word.startswith("WATCHDOG")) == "READY=1"
            sentry.stop()
        finally:
            sentry.close()


# --- the watchdog


@pytest.mark.netns
def test_the_loop_notifies_the_watchdog_and_stops_with_it(lab: Lab) -> None:
    sentry = Sentry(lab)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(sentry.home / "notify"))
        listener.settimeout(10)
        told = f"NOTIFY_SOCKET={sentry.home / 'notify'}", "WATCHDOG_USEC=4000000"
        sentry.command = ["env", *told, *sentry.command]
        try:
            sentry.start()
            said = [listener.recv(4096).decode() for _ in range(3)]
            assert said[0] == "READY=1"
            assert said[1:] == ["WATCHDOG=1"] * 2
            sentry.process.send_signal(signal.SIGSTOP)  # a loop that hangs
            wait_for(lambda: _state(sentry.process.pid) == "T", "it hangs")
            _drain(listener)
            listener.settimeout(3)
            with pytest.raises(TimeoutError):
                listener.recv(4096)
            sentry.process.send_signal(signal.SIGCONT)
            assert listener.recv(4096) == b"WATCHDOG=1"
            sentry.stop()
        finally:
            if sentry.process is not None:
                sentry.process.send_signal(signal.SIGCONT)
            sentry.close()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _drain(listener: socket.socket) -> None:
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.recv(4096)


def test_the_default_paths_are_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "USER", "sentryfw")
    defaults = Config().paths
    text = rendered(Service(Path("/a"), Path("/b"), defaults))["tmpfiles.conf"]
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    made = [[str(path), "0750"] for path in (defaults.state, defaults.log, defaults.runtime)]
    assert [line[1:3] for line in lines] == made
    assert {tuple(line[3:5]) for line in lines} == {("sentryfw", "sentryfw")}
