"""Processes of ours that live for one request: what they get, and how they end."""

import subprocess
import sys

import pytest

from sentryfw.host import child


def _python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def test_a_child_reads_a_request_and_writes_an_answer() -> None:
    code = "import json, sys; json.dump([json.load(sys.stdin)], sys.stdout)"
    assert child.run(_python(code), {"a": "\u00e9"}, 20.0) == ([{"a": "\u00e9"}], 0, "")


def test_it_gets_neither_directory_nor_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "token")
    code = "import json, os; print(json.dumps([os.getcwd(), sorted(os.environ)]))"
    answer = child.run(_python(code), None, 20.0).answer
    assert answer[0] == "/"
    assert set(answer[1]) <= {"PATH", "LC_CTYPE"}  # CPython coerces the C locale (PEP 538)


@pytest.mark.parametrize(
    ("code", "status"), [("print('{')", 0), ("raise SystemExit(3)", 3), ("pass", 0)]
)
def test_without_an_answer_the_status_is_left(code: str, status: int) -> None:
    ended = child.run(_python(code), "x" * 100_000, 20.0)
    assert (ended.answer, ended.status) == (None, status)


def test_its_error_output_is_kept() -> None:
    assert child.run(_python("import sys; sys.exit('why')"), {}, 20.0) == (None, 1, "why\n")


def test_one_that_cannot_start_or_does_not_end_raises() -> None:
    with pytest.raises(FileNotFoundError):
        child.run(["/nonexistent"], {}, 1.0)
    with pytest.raises(subprocess.TimeoutExpired):
        child.run(["/bin/sleep", "60"], {}, 0.1)


@pytest.mark.parametrize(
    ("command", "made"),
    [
        (_python("print('{\"error\": \"\", \"status\": 7}')"), ("", 7)),
        (_python("exit('secret')"), ("the process that sends ended with status 1", 0)),
        (_python("print('{\"other\": 1}')"), ("the process that sends ended with status 0", 0)),
        (["/nonexistent"], ("cannot start a process: No such file or directory", 0)),
        (["/bin/sleep", "60"], ("no end within 0.1s", 0)),
    ],
    ids=["answer", "no answer", "not ours", "no start", "no end"],
)  # fmt: skip
def test_one_that_sends_answers_or_a_reason_is_made(
    command: list[str], made: tuple[str, int]
) -> None:
    def make(error: str, status: int = 0) -> tuple[str, int]:
        return error, status

    seconds = 0.1 if "sleep" in command[0] else 20.0
    assert child.send(make, command, {}, seconds, 0.1) == made


def test_a_module_runs_isolated() -> None:
    assert child.command_of("sentryfw.x") == [sys.executable, "-I", "-m", "sentryfw.x"]
