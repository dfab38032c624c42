"""hosts.deny: our section, the lines of others, and how libwrap reads the file."""

import ctypes
import ctypes.util
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sentryfw.errors import ReactionFailed
from sentryfw.respond import hosts_deny as module
from sentryfw.respond.hosts_deny import BEGIN, END, HostsDenyFile, client

A = "198.18.0.2"
B = "198.18.0.3"
SIX = "2001:2:0:1::/64"
LINE = "ALL: {address}"
SECTION_A = b"%s\nALL: 198.18.0.2\n%s\n" % (BEGIN, END)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hosts.deny"


@pytest.fixture
def section(path: Path) -> HostsDenyFile:
    return HostsDenyFile(path, LINE)


def _others(path: Path) -> list[str]:
    """Return temporary files that were left behind."""
    return [other.name for other in path.parent.iterdir() if other != path]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("198.18.0.2", "198.18.0.2"),
        ("2001:2:0:1::/64", "[2001:2:0:1::]/64"),
        ("fe80::1", "[fe80::1]"),
    ],
)
def test_ipv6_is_written_in_brackets(address: str, text: str) -> None:
    assert client(address) == text


# --- the contents


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", SECTION_A),
        (b"ALL: PARANOID\n", b"ALL: PARANOID\n" + SECTION_A),
        (b"ALL: PARANOID", b"ALL: PARANOID\n" + SECTION_A),
        (b"# x\r\nsshd: 192.0.2.1\r\n", b"# x\r\nsshd: 192.0.2.1\r\n" + SECTION_A),
        (b"sshd: 192.0.2.1, \\\n", b"sshd: 192.0.2.1, \\\n\n" + SECTION_A),
        (b"sshd: 192.0.2.1 \\", b"sshd: 192.0.2.1 \\\n\n" + SECTION_A),
        (b"\xff\xfe\x00 no text\n", b"\xff\xfe\x00 no text\n" + SECTION_A),
        (b"\n\n", b"\n\n" + SECTION_A),
        (
            b"a: b\n%s\nALL: 198.18.0.9\n%s\nc: d\n" % (BEGIN, END),
            b"a: b\n%s\nALL: 198.18.0.9\nALL: 198.18.0.2\n%s\nc: d\n" % (BEGIN, END),
        ),
        (
            b"a: b\r\n%s\r\nALL: 198.18.0.9\r\n%s\r\n" % (BEGIN, END),
            b"a: b\r\n%s\nALL: 198.18.0.9\nALL: 198.18.0.2\n%s\n" % (BEGIN, END),
        ),
        (
            b"%s\nALL: 198.18.0.9\nsshd: ALL\n" % BEGIN,
            b"%s\nALL: 198.18.0.9\nALL: 198.18.0.2\n%s\nsshd: ALL\n" % (BEGIN, END),
        ),
        (
            b"%s\n%s\nx: y\n%s\nALL: 198.18.0.9\n%s\n" % (BEGIN, END, BEGIN, END),
            b"%s\nALL: 198.18.0.9\nALL: 198.18.0.2\n%s\nx: y\n" % (BEGIN, END),
        ),
    ],
    ids=[
        "empty", "one-line", "no-newline-at-the-end", "crlf", "continued-line",
        "continued-to-the-end", "no-text", "blank-lines", "section-in-the-middle",
        "section-in-crlf", "section-without-end", "two-sections",
    ],
)  # fmt: skip
def test_a_line_is_added_and_the_rest_kept(
    section: HostsDenyFile, path: Path, before: bytes, after: bytes
) -> None:
    path.write_bytes(before)
    section.apply({A: True})
    assert path.read_bytes() == after
    assert _others(path) == []


def test_a_new_file_is_readable_by_all_users(section: HostsDenyFile, path: Path) -> None:
    section.apply({A: True})
    assert path.read_bytes() == SECTION_A
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_same_address_has_one_line(section: HostsDenyFile, path: Path) -> None:
    for _ in range(3):
        section.apply({A: True, SIX: True})
    assert section.lines() == ["ALL: 198.18.0.2", "ALL: [2001:2:0:1::]/64"]
    assert path.read_text().count("198.18.0.2") == 1


def test_a_line_of_the_administrator_is_not_written_again(
    section: HostsDenyFile, path: Path
) -> None:
    path.write_text("ALL: 198.18.0.2\n")
    section.apply({A: True, B: True})
    assert path.read_text().count("198.18.0.2\n") == 1
    section.apply({A: False, B: False})
    assert path.read_text() == "ALL: 198.18.0.2\n"


def test_a_comment_about_an_address_is_not_a_line(section: HostsDenyFile, path: Path) -> None:
    path.write_text("# ALL: 198.18.0.2\nALL: 198.18.0.22\n")
    section.apply({A: True})
    assert section.lines() == ["ALL: 198.18.0.2"]
    section.apply({A: False})
    assert path.read_text() == "# ALL: 198.18.0.2\nALL: 198.18.0.22\n"


@given(
    before=st.lists(st.sampled_from([b"sshd: ALL", b"ALL: 198.18.0.1", b"# ALL: 198.18.0.2", b""])),
    ours=st.lists(st.integers(1, 30), unique=True),
    after=st.lists(st.sampled_from([b"c: d", b"ALL: 198.18.0.3 ", b" ALL: 198.18.0.4"])),
    changes=st.dictionaries(st.integers(1, 30), st.booleans(), max_size=6),
)
def test_splicing_writes_the_same_file_as_reading_every_line(
    before: list[bytes], ours: list[int], after: list[bytes], changes: dict[int, bool]
) -> None:
    # Reading every line also leaves out those of ours that an administrator wrote since.
    assume({1, 3, 4} & set(ours) <= set(changes))
    lines = [b"ALL: 198.18.0.%d" % number for number in ours]
    data = b"".join(b"%s\n" % line for line in (*before, BEGIN, *lines, END, *after))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hosts.deny"
        found = []
        for most in (0, module.MAX_SPLICES):
            path.write_bytes(data)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "MAX_SPLICES", most)
                HostsDenyFile(path, LINE).apply(
                    {f"198.18.0.{number}": present for number, present in changes.items()}
                )
            found.append(path.read_bytes())
    assert found[0] == found[1]


def test_a_change_among_many_lines_reads_only_its_own(
    section: HostsDenyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section.sync({f"198.18.{high}.{low}" for high in range(1, 9) for low in range(250)})
    monkeypatch.setattr(module, "_split", None)
    section.apply({A: True})
    section.apply({B: True, A: False, "198.18.8.1": False})
    assert path.read_bytes().endswith(b"ALL: 198.18.8.99\nALL: 198.18.0.3\n%s\n" % END)
    assert b"198.18.8.1\n" not in path.read_bytes()


def test_the_section_is_removed_with_its_last_line(section: HostsDenyFile, path: Path) -> None:
    path.write_text("ALL: PARANOID\n")
    section.apply({A: True, SIX: True})
    section.apply({SIX: False})
    assert section.lines() == ["ALL: 198.18.0.2"]
    section.apply({A: False})
    assert path.read_text() == "ALL: PARANOID\n"


def test_sync_leaves_exactly_the_given_addresses(section: HostsDenyFile, path: Path) -> None:
    path.write_text("x: y\n")
    section.apply({A: True, B: True})
    section.sync({B, SIX})
    assert section.lines() == ["ALL: 198.18.0.3", "ALL: [2001:2:0:1::]/64"]
    section.sync(set())
    assert path.read_text() == "x: y\n"


def test_an_unchanged_file_is_not_written(section: HostsDenyFile, path: Path) -> None:
    path.write_text("x: y\n")
    before = path.stat()
    section.apply({A: False})
    section.sync(set())
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


# --- owner, mode, links


@pytest.mark.root
def test_mode_and_owner_are_kept(section: HostsDenyFile, path: Path) -> None:
    path.write_text("x: y\n")
    os.chown(path, 65534, 12)
    path.chmod(0o640)
    section.apply({A: True})
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 12, 0o640)


def test_a_symlink_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real"
    real.write_text("x: y\n")
    link = tmp_path / "hosts.deny"
    link.symlink_to("elsewhere/real")
    HostsDenyFile(link, LINE).apply({A: True})
    assert link.is_symlink()
    assert real.read_bytes() == b"x: y\n" + SECTION_A


def test_a_reader_sees_the_old_file_or_the_new_one(section: HostsDenyFile, path: Path) -> None:
    """An open file stays the old one: the file is replaced, not written."""
    path.write_text("x: y\n")
    with path.open() as reader:
        section.apply({A: True})
        assert reader.read() == "x: y\n"


# --- refusals, which change nothing


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _writable_by_all(path: Path) -> None:
    path.write_text("x: y\n")
    path.chmod(0o666)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(module.MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_directory, "Is a directory|not a regular file"),
        (_fifo, "not a regular file"),
        (_writable_by_all, "every user can write it"),
        (_huge, "larger than"),
    ],
    ids=["directory", "fifo", "writable-by-all", "huge"],
)
def test_a_file_that_is_not_safe_is_not_changed(
    section: HostsDenyFile, path: Path, make: object, reason: str
) -> None:
    make(path)  # type: ignore[operator]
    before = path.stat()
    with pytest.raises(ReactionFailed, match=reason):
        section.apply({A: True})
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mode) == (
        before.st_ino, before.st_size, before.st_mode,
    )  # fmt: skip
    assert after.st_mtime_ns == before.st_mtime_ns
    assert _others(path) == []


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ReactionFailed, match="No such file or directory"):
        HostsDenyFile(tmp_path / "no" / "hosts.deny", LINE).apply({A: True})


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """The limit applies to a whole process, so it is set in one of its own."""
    path.write_text("x: y\n" * 1000)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from sentryfw.respond.hosts_deny import HostsDenyFile\n"
        "from sentryfw.errors import ReactionFailed\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: HostsDenyFile(Path(sys.argv[1]), 'ALL: {address}').apply({'198.18.0.2': True})\n"
        "except ReactionFailed as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("File too large; nothing was changed")
    assert path.read_text() == "x: y\n" * 1000
    assert _others(path) == []


def test_a_change_by_another_program_during_an_edit_is_not_lost(
    section: HostsDenyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("x: y\n")
    real, calls = module._join, []

    def join_while_edited(*arguments: bytes) -> bytes:
        if not calls:
            path.write_text("x: y\nedited: now\n")
        calls.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_join", join_while_edited)
    section.apply({A: True})
    assert path.read_bytes() == b"x: y\nedited: now\n" + SECTION_A
    assert len(calls) == 2


def test_the_wait_for_a_lock_is_bounded(
    section: HostsDenyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.1)
    holder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ReactionFailed, match="locked by another program"):
            section.apply({A: True})
    finally:
        os.close(holder)
    section.apply({A: True})
    assert path.read_bytes() == SECTION_A


# --- libwrap itself


def _libwrap() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libwrap.so.0")
    except OSError:
        return None


@pytest.mark.skipif(_libwrap() is None, reason="needs libwrap0")
@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("198.18.0.2", 0),
        ("198.18.0.3", 1),
        ("2001:2:0:1::77", 0),
        ("2001:2:0:1:ffff::1", 0),
        ("2001:2:0:2::77", 1),
        ("fe80::1", 0),
        ("fe80::2", 1),
    ],
)
def test_libwrap_refuses_the_sources_of_our_lines(path: Path, peer: str, allowed: int) -> None:
    """Ask hosts_ctl(3) of the real library, with its tables set to our files."""
    path.write_text("sshd: 203.0.113.1, \\")
    HostsDenyFile(path, LINE).sync({A, SIX, "fe80::1"})
    library = _libwrap()
    assert library is not None
    nowhere = str(path.parent / "hosts.allow").encode()
    tables = {"hosts_deny_table": str(path).encode(), "hosts_allow_table": nowhere}
    variables = [ctypes.c_char_p.in_dll(library, name) for name in tables]
    before = [variable.value for variable in variables]
    try:
        for variable, value in zip(variables, tables.values(), strict=True):
            variable.value = value
        found = library.hosts_ctl(b"sshd", b"unknown", peer.encode(), b"unknown")
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.value = value
    assert found == allowed
