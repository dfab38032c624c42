"""PortSentry's history lines: their exact form, and how fail2ban reads them."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.config.respond import History
from sentryfw.errors import ReactionFailed
from sentryfw.respond.history import HistoryFile, portsentry1, portsentry2
from sentryfw.respond.incident import Incident
from support.reactions import INCIDENT, REFUSED, SIX

FAIL2BAN = shutil.which("fail2ban-regex")
STOCK_1 = Path("/etc/fail2ban/filter.d/portsentry.conf")
STOCK_2 = r"^[^ ]* Scan from: \[<HOST>\]"
"""The failregex of portsentry/portsentry, fail2ban/portsentry.conf."""
UDP = INCIDENT._replace(protocol="udp", kind="udp", mode="audp", port=161)
NAMED = INCIDENT._replace(host="evil.example")


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lines are in local time; here that is New York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("incident", "line"),
    [
        (INCIDENT, "1800000000 - 01/15/2027 03:00:00 Host: 198.18.0.2/198.18.0.2 Port: 111 TCP"),
        (UDP, "1800000000 - 01/15/2027 03:00:00 Host: 198.18.0.2/198.18.0.2 Port: 161 UDP"),
        (NAMED, "1800000000 - 01/15/2027 03:00:00 Host: evil.example/198.18.0.2 Port: 111 TCP"),
        (SIX, "1800000000 - 01/15/2027 03:00:00 Host: 2001:2:0:1::2/2001:2:0:1::2 Port: 111 TCP"),
    ],
    ids=["tcp", "udp", "named", "ipv6"],
)
def test_the_line_of_portsentry_1(incident: Incident, line: str) -> None:
    assert portsentry1(incident) == f"{line} Blocked\n"


TAIL = "IP opts: [unknown] ignored: [false] triggered: [true]"


@pytest.mark.parametrize(
    ("incident", "line"),
    [
        (
            INCIDENT,
            (
                "[198.18.0.2] (198.18.0.2) protocol: [TCP] port: [111] type: [TCP SYN/Normal scan]"
                f" {TAIL} noblock: [false] blocked: [true]"
            ),
        ),
        (
            UDP,
            (
                "[198.18.0.2] (198.18.0.2) protocol: [UDP] port: [161] type: [UDP]"
                f" {TAIL} noblock: [false] blocked: [true]"
            ),
        ),
        (
            SIX._replace(host="evil.example", kind="null"),
            (
                "[2001:2:0:1::2] (evil.example) protocol: [TCP] port: [111] type: [TCP NULL scan]"
                f" {TAIL} noblock: [false] blocked: [true]"
            ),
        ),
        (
            INCIDENT._replace(kind="connect", mode="tcp"),
            (
                "[198.18.0.2] (198.18.0.2) protocol: [TCP] port: [111] type: [Connect]"
                f" {TAIL} noblock: [false] blocked: [true]"
            ),
        ),
        (
            REFUSED,
            (
                "[198.18.0.2] (198.18.0.2) protocol: [TCP] port: [111] type: [TCP SYN/Normal scan]"
                f" {TAIL} noblock: [true] blocked: [false]"
            ),
        ),
    ],
    ids=["tcp", "udp", "ipv6-null", "connect", "observed"],
)
def test_the_line_of_portsentry_2(incident: Incident, line: str) -> None:
    assert portsentry2(incident) == f"2027-01-15T03:00:00.250-0500 Scan from: {line}\n"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("fin", "TCP FIN scan"),
        ("xmas", "TCP XMAS scan"),
        (
            "synfin",
            "Unknown Type: TCP Packet Flags: SYN: 1 FIN: 1 ACK: 0 PSH: 0 URG: 0 RST: 0",
        ),
        ("sctp-init", "sctp-init"),
    ],
)
def test_kinds_have_portsentrys_name_if_it_had_one(kind: str, name: str) -> None:
    incident = INCIDENT._replace(kind=kind)  # type: ignore[arg-type]
    assert f" type: [{name}] " in portsentry2(incident)


@pytest.mark.parametrize("reason", ["partner", "never_block", "flood", "block.per_minute"])
def test_a_partner_gets_no_line_that_a_filter_would_match(reason: str) -> None:
    spared = REFUSED._replace(reason=reason)
    assert portsentry1(spared) == portsentry2(spared) == ""


def test_a_refused_source_is_never_written_as_blocked() -> None:
    assert portsentry1(REFUSED) == ""


# --- the file


def _history(path: Path, form: str = "portsentry1") -> HistoryFile:
    return HistoryFile(History.model_validate({"format": form, "path": str(path)}))


def test_lines_are_appended_also_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("what was there\n")
    write = _history(path)
    write(INCIDENT)
    path.rename(tmp_path / "history.1")
    write(UDP)
    write(REFUSED)
    assert len((tmp_path / "history.1").read_text().splitlines()) == 2
    assert path.read_text() == portsentry1(UDP)


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "history").symlink_to("real")
    with pytest.raises(ReactionFailed, match="Too many levels of symbolic links"):
        _history(tmp_path / "history")(INCIDENT)
    assert (tmp_path / "real").read_text() == ""


def test_a_full_disk_is_a_failure() -> None:
    with pytest.raises(ReactionFailed, match="No space left on device"):
        _history(Path("/dev/full"))(INCIDENT)


# --- fail2ban


@pytest.mark.skipif(FAIL2BAN is None or not STOCK_1.exists(), reason="needs fail2ban")
@pytest.mark.parametrize(
    ("form", "regex"),
    [("portsentry1", str(STOCK_1)), ("portsentry2", STOCK_2)],
    ids=["stock-1", "stock-2"],
)
def test_fail2bans_stock_filters_match_every_line(tmp_path: Path, form: str, regex: str) -> None:
    path = tmp_path / "history"
    write = _history(path, form)
    now = time.time()
    for incident in (INCIDENT, UDP, NAMED, SIX):
        write(incident._replace(at=now))
    written = path.read_text()
    assert FAIL2BAN is not None
    done = subprocess.run(
        [FAIL2BAN, "--print-all-matched", path, regex],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Lines: 4 lines, 0 ignored, 4 matched, 0 missed" in done.stdout
    for address in ("198.18.0.2", "2001:2:0:1::2"):
        assert address in written


@pytest.mark.parametrize(
    ("form", "regex"),
    [
        ("portsentry1", r"\/(?P<host>\S+) Port\: [0-9]+ (TCP|UDP) Blocked$"),
        ("portsentry2", r"^[^ ]* Scan from: \[(?P<host>[^\]]+)\]"),
    ],
)
def test_the_published_expressions_find_the_address(form: str, regex: str) -> None:
    render = {"portsentry1": portsentry1, "portsentry2": portsentry2}[form]
    for incident in (INCIDENT, UDP, NAMED, SIX):
        found = re.search(regex, render(incident).rstrip("\n"))
        assert found is not None
        assert found["host"] == incident.ip
