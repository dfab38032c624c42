"""The child that checks a configuration for a process without pydantic."""

import pickle
import subprocess
from typing import Any

from sentryfw import __version__, config
from sentryfw.config import files
from sentryfw.config.plain import process


def answer(text: bytes) -> tuple[Any, Any]:
    done = subprocess.run(
        process.COMMAND, input=pickle.dumps(files.only(text, "/etc/x")), capture_output=True,
        check=True,
    )  # fmt: skip
    version, answered = pickle.loads(done.stdout)  # noqa: S301 - the child is ours
    assert version == __version__
    found, rest = pickle.loads(answered)  # noqa: S301
    return found, rest


def test_it_writes_the_sections_and_their_values_as_json() -> None:
    text = b'[detect]\nwindow = "90s"'
    expected = config.parse(text, "/etc/x")
    assert answer(text) == (expected, expected.model_dump(mode="json"))


def test_it_writes_all_faults() -> None:
    found, rest = answer(b'[detect]\ntrigger = "x"\n[watch]\nfoward = true\n')
    assert found is None
    where, faults, places = rest
    assert (where, places) == ("/etc/x", ["/etc/x"] * 2)
    assert [fault.partition(":")[0] for fault in faults] == ["watch.foward", "detect.trigger"]
