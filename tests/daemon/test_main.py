"""The entry point loads no library before it has decided what they may load."""

import subprocess
import sys


def test_importing_the_entry_point_loads_no_library() -> None:
    code = (
        "import sys, sentryfw.daemon.main\n"
        "print(*(name in sys.modules for name in ('asyncio', 'pydantic', 'ssl', '_hashlib')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"] * 4
