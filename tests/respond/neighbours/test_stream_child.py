"""The process that asks for decisions once: nonsense, and what it imports."""

import json
import subprocess
import sys

from sentryfw.respond.neighbours.stream import COMMAND


def test_the_child_writes_an_answer_for_nonsense() -> None:
    for text, name in (("{}", "KeyError"), ("[]", "TypeError"), ("{", "JSONDecodeError")):
        done = subprocess.run(COMMAND, input=text, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == {"error": f"not a valid answer ({name})"}
        assert done.stderr == ""


def test_a_question_does_not_load_the_configuration() -> None:
    code = (
        "import sys, sentryfw.respond.neighbours.stream_child;"
        "print('pydantic' in sys.modules, 'sqlite3' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
