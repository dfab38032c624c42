"""sentryfw replay: what is printed, and how it ends."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from support.box import BIN
from support.captures import START, THEM, US, pcap, pcap_record, tcp

PROBES: Final = [(n * 0.01, tcp(THEM, US, port)) for n, port in enumerate(range(7001, 7011))]
ANSWERED: Final = [(0.5, tcp(THEM, US, 22)), (0.6, tcp(US, THEM, 40000, "SA", 22))]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "scan.pcap"
    path.write_bytes(pcap(PROBES + ANSWERED))
    return path


def _sentryfw(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "sentryfw", *words], capture_output=True, text=True, check=False, env=_environment()
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SENTRYFW")}


def _json(*words: str | Path) -> tuple[int, dict[str, Any]]:
    done = _sentryfw("replay", "--json", *words)
    return done.returncode, json.loads(done.stdout)


def test_a_pipe_gets_one_tab_separated_line_a_source(capture: Path) -> None:
    done = _sentryfw("replay", capture)
    assert done.returncode == 0, done.stderr
    head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    [row] = [dict(zip(head, line, strict=True)) for line in lines]
    expected = {
        "address": THEM, "action": "blocked", "scan": "portscan", "kinds": "syn", "targets": "3",
        "probes": "3", "packets_after": "8", "answers_after": "1",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    assert float(row["decision_ms"]) == pytest.approx(20, abs=0.01)


def test_the_guess_is_printed_beside_the_data(capture: Path) -> None:
    done = _sentryfw("replay", capture)
    assert f"local: {US} (guessed" in done.stderr
    assert "listed: tcp/22 (guessed" in done.stderr


def test_json_has_every_value(capture: Path) -> None:
    code, document = _json(capture)
    assert code == 0
    assert document["capture"] == str(capture)
    assert (document["packets"], document["error"]) == (12, None)
    assert document["guess"] == {
        "guessed": ["local", "listed"], "local": [US], "listed": ["tcp/22"],
    }  # fmt: skip
    [source] = document["sources"]
    assert source["first_seen"] == "2023-11-14T22:13:20.000000+00:00"
    assert START == 1_700_000_000  # that very second
    assert (source["address"], source["blocks"], source["decision_ms"]) == (
        THEM, 1, pytest.approx(20, abs=0.01),
    )  # fmt: skip


def test_given_values_are_not_guessed(capture: Path) -> None:
    _, document = _json(capture, "--local", "192.0.2.0/24", "--listed", "tcp/7001-7010,udp/53")
    ports = [f"tcp/{port}" for port in range(7001, 7011)] + ["udp/53"]
    assert document["guess"] == {"guessed": [], "local": ["192.0.2.0/24"], "listed": ports}
    assert [row["probes"] for row in document["sources"]] == [6]  # a listed port weighs half


def test_options_may_repeat_and_no_port_may_be_listed(capture: Path) -> None:
    _, document = _json(
        capture, "--local", US, "--local", "2001:db8::/32", "--listed", "tcp/1", "--listed", "tcp/2"
    )
    assert document["guess"]["local"] == [US, "2001:db8::/32"]
    assert document["guess"]["listed"] == ["tcp/1", "tcp/2"]
    _, document = _json(capture, "--listed", "")
    assert document["guess"]["listed"] == []


def test_a_side_can_be_kept_out_of_the_guess(capture: Path) -> None:
    code, document = _json(capture, "--not-local", US)
    assert (code, document["guess"]["local"], document["sources"]) == (0, [THEM], [])
    both = _sentryfw("replay", capture, "--local", US, "--not-local", THEM)
    assert (both.returncode, both.stderr.count("--not-local is for the guess")) == (2, 1)


def test_packets_cut_short_by_the_capture_are_counted(capture: Path) -> None:
    cut = tcp(THEM, US, 22)[:38]
    capture.write_bytes(capture.read_bytes() + pcap_record(cut, START + 9))
    done = _sentryfw("replay", capture)
    assert "1 packets were cut short by the capture (snap length)" in done.stderr


def test_the_configuration_holds(capture: Path, tmp_path: Path) -> None:
    config = tmp_path / "sentryfw.toml"
    config.write_text("[detect]\ntrigger = 7\n")
    done = _sentryfw("-c", config, "replay", "--json", capture)
    assert json.loads(done.stdout)["sources"][0]["probes"] == 7


def test_a_broken_capture_gives_what_was_found_the_byte_and_exit_code_1(capture: Path) -> None:
    whole = capture.read_bytes()
    capture.write_bytes(whole[:-7])
    begin = len(whole) - (16 + len(ANSWERED[1][1]))
    done = _sentryfw("replay", capture)
    assert done.returncode == 1
    assert THEM in done.stdout
    assert f"sentryfw: {capture}: byte {begin}: the last packet is cut short" in done.stderr
    code, document = _json(capture)
    assert (code, len(document["sources"])) == (1, 1)
    assert document["error"] == {"byte": begin, "reason": "the last packet is cut short"}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no packets here")
    done = _sentryfw("replay", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"sentryfw: {path}: byte 0: not a capture: neither pcap nor pcapng (plain or gzip)\n"
    )


@pytest.mark.parametrize("name", ["nothing.pcap", "."], ids=["missing", "a directory"])
def test_an_unreadable_file_is_reported_without_a_traceback(tmp_path: Path, name: str) -> None:
    done = _sentryfw("replay", tmp_path / name)
    assert done.returncode == 1
    assert str(tmp_path / name) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pipe_is_refused_because_it_cannot_be_read_twice(capture: Path) -> None:
    with capture.open("rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=-1) as cat:
        done = subprocess.run(
            [BIN / "sentryfw", "replay", "/dev/stdin"],
            stdin=cat.stdout, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "write it to a file first" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--listed", "22"), ("--listed", "tcp/"), ("--listed", "icmp/1"), ("--listed", "tcp/9-8"),
        ("--listed", "tcp/65536"), ("--local", "here"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_option_is_a_usage_error_that_names_it(capture: Path, words: tuple[str]) -> None:
    done = _sentryfw("replay", capture, *words)
    assert done.returncode == 2
    assert words[0] in done.stderr
    assert repr(words[1]) in done.stderr


def test_a_link_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wifi.pcap"
    path.write_bytes(pcap([(0, b"frame")], linktype=147))
    done = _sentryfw("replay", path)
    assert "1 packets of link type 147 were not read" in done.stderr


def test_a_terminal_gets_a_table_of_80_columns(capture: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**_environment(), "COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(
        [BIN / "sentryfw", "replay", capture], stdout=theirs, stderr=-3, env=environment
    ) as process:
        os.close(theirs)
        text = b""
        while chunk := _read(ours):
            text += chunk
    os.close(ours)
    assert process.returncode == 0
    lines = text.decode().splitlines()
    assert "1 sources in 12 packets" in lines[0]
    assert any(THEM in line and "portscan" in line for line in lines)
    assert max(map(len, lines)) <= 80


def _read(descriptor: int) -> bytes:
    """Return the terminal's output; nothing once it is closed at the other end (EIO)."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
