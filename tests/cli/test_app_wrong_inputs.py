"""Wrong inputs: no traceback, the documented exit code, and one sentence that names the fault."""

import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

from support.box import Box
from support.fake_host import FakeHost
from support.host import environment
from support.wrong_inputs import (
    COMMAND_LINES,
    DAMAGE,
    DAMAGED,
    OTHERS,
    READING,
    Words,
    WrongInput,
    write_wrong_files,
)

EXIT_CODES: Final = {1, 2, 3, 4, 5, 6, 7, 78}
MAX_SENTENCE_CHARS: Final = 400
PYTHON: Final = re.compile(
    r"Traceback|\[?Errno|Error\(|\w+Error: |<class|object at 0x|Exception ignored"
)


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    """A host with one block and the wrong files."""
    write_wrong_files(host.home)
    host.sentryfw("block", "203.0.113.7")
    return host


def _sentence(done: CompletedProcess[str]) -> str:
    """Return the sentence of an error; help and usage stand before it."""
    last = done.stderr.rstrip("\n").split("\n")[-1]
    assert not PYTHON.search(done.stdout + done.stderr), done.stderr
    assert last.removeprefix("sentryfw: ").removeprefix("Error: "), done.stderr
    return last


def test_there_are_more_than_150_of_them() -> None:
    lines = {wrong.words for wrong in (*COMMAND_LINES, *OTHERS)}
    assert len(lines) == len(COMMAND_LINES) + len(OTHERS) > 150
    assert {wrong.code for wrong in (*COMMAND_LINES, *OTHERS)} <= EXIT_CODES


@pytest.mark.parametrize("wrong", [*COMMAND_LINES, *OTHERS], ids=str)
def test_a_wrong_command_line(host: FakeHost, wrong: WrongInput) -> None:
    before = host.ruleset()
    done = host.sentryfw(*(word.replace("{home}", str(host.home)) for word in wrong.words))
    assert done.returncode == wrong.code, done.stderr
    sentence = _sentence(done)
    if wrong.words and wrong.words[:1] != ("allow",):
        assert sentence.startswith(("sentryfw: ", "Error: "))
    assert len(sentence) < MAX_SENTENCE_CHARS + len(str(host.home))
    assert sentence.isprintable()
    assert host.ruleset() == before


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("place", DAMAGED)
def test_a_damaged_file_of_ours(host: FakeHost, place: str, kind: str) -> None:
    path: Path = getattr(host.settings.paths, place)
    path.parent.mkdir(mode=0o750, exist_ok=True)
    DAMAGE[kind](path)
    for words in READING:
        done = host.sentryfw(*words)
        assert done.returncode in EXIT_CODES | {0}, (words, done.stderr)
        assert not PYTHON.search(done.stdout + done.stderr), (words, done.stderr)
        if done.returncode in (1, 78):
            assert _sentence(done).startswith("sentryfw: "), (words, done.stderr)


# --- what surrounds a process


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with Box() as made:
        made.install()
        yield made


def _shell(box: Box, script: str, words: Words, **env: str) -> CompletedProcess[str]:
    """Run a command by a shell, where "$@" stands for it."""
    command = box.launch("-c", box.config, *words)
    return box.namespace.run("bash", "-c", script, "bash", *command, env=environment(env))


@pytest.mark.netns
@pytest.mark.parametrize("words", [("status",), ("list",), ("report",), ("--help",)], ids=" ".join)
@pytest.mark.parametrize(
    ("script", "sentences"),
    [('"$@" >/dev/full', 1), ('"$@" >&-', 1), ('"$@" >&- 2>&-', 0), ('"$@" >/dev/full 2>&1', 0)],
)
def test_an_output_that_is_full_or_closed_is_exit_code_1(
    box: Box, script: str, sentences: int, words: Words
) -> None:
    done = _shell(box, script, words)
    assert done.returncode == 1, done.stderr
    assert not PYTHON.search(done.stderr)
    assert done.stderr.count("standard output cannot be written") == sentences


@pytest.mark.netns
@pytest.mark.parametrize(
    ("script", "env"),
    [
        ('"$@" <&-', {}),
        ('cd /nowhere 2>&-; d=$(mktemp -d); cd "$d"; rmdir "$d"; "$@"', {}),
        ('ulimit -n 24; "$@"', {}),
        ('umask 777; "$@"', {}),
        ('"$@"', {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ('"$@"', {"LC_ALL": "xx_XX.nonsense"}),
        ('"$@"', {"TZ": "Nowhere/Nothing"}),
        ('"$@"', {"COLUMNS": "nonsense", "LINES": "-1", "TERM": "nonsense"}),
        ('"$@"', {"HOME": "/nowhere", "TMPDIR": "/nowhere"}),
        ('"$@"', {"SSH_CONNECTION": "\x1b nonsense"}),
        ('"$@"', {"NOTIFY_SOCKET": "/nowhere"}),
        ('env -i "$@"', {}),
    ],
)
def test_odd_surroundings_change_nothing(box: Box, script: str, env: dict[str, str]) -> None:
    for words, code in ((("list",), 0), (("block", "203.0.113.7"), 0), (("status",), 3)):
        done = _shell(box, script, words, **env)
        assert done.returncode == code, (words, done.stderr)
        assert not PYTHON.search(done.stdout + done.stderr)


@pytest.mark.netns
def test_a_reader_that_leaves_early_causes_no_message(box: Box) -> None:
    done = _shell(box, '"$@" | head -n 1; exit ${PIPESTATUS[0]}', ("status",))
    assert done.returncode in (1, 3)
    assert done.stderr == ""


def test_the_exit_codes_are_the_documented_ones() -> None:
    page = Path(__file__).parents[2] / "docs" / "man" / "sentryfw.8.in"
    text = page.read_text()
    for code in EXIT_CODES:
        assert re.search(rf"^\.B {code}$|^\.TP\n\.B {code}\b|\b{code}\b", text, re.MULTILINE), code
