"""sentryfw import-portsentry: a configuration that holds, written once, over nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sentryfw import config

MakeEtc = Callable[..., Path]
SENTRYFW = Path(sys.executable).parent / "sentryfw"


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (SENTRYFW, *words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_printed_is_a_configuration(make_etc: MakeEtc) -> None:
    done = _run("import-portsentry", make_etc(), "--tcp-mode", "stcp", "--udp-mode", "sudp")
    assert done.returncode == 0, done.stderr
    made = config.parse(done.stdout.encode(), "stdout")
    assert made.watch.trap_tcp == ((1, 1), (11, 11), (15, 15))


def test_a_file_is_taken_as_well_as_its_directory(make_etc: MakeEtc) -> None:
    etc = make_etc()
    assert _run("import-portsentry", etc / "portsentry.conf").stdout == (
        _run("import-portsentry", etc).stdout
    )


def test_json_holds_all_of_it(make_etc: MakeEtc) -> None:
    done = _run("import-portsentry", make_etc('SCAN_TRIGGER="2"\nhello\n'), "--json")
    found = json.loads(done.stdout)
    assert config.parse(found["config"].encode(), "json").detect.trigger == 2
    assert {"section": "detect", "key": "trigger", "value": 2,
            "origin": 'portsentry.conf line 10: SCAN_TRIGGER="2", which fires on hit 2',
            } in found["keys"]  # fmt: skip
    assert any(remark["line"] == 11 for remark in found["warnings"])
    assert any("blocks without end" in remark["said"] for remark in found["not_carried_over"])


def test_write_makes_the_file_once_and_overwrites_nothing(
    make_etc: MakeEtc, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "sentryfw.toml"
    done = _run("-c", path, "import-portsentry", make_etc(), "--write")
    assert done.returncode == 0, done.stderr
    assert f"wrote {path}" in done.stderr
    assert "not carried over: blocks without end" in done.stderr
    assert path.stat().st_mode & 0o7777 == 0o644
    assert _run("-c", path, "check").returncode == 0
    path.write_text("# mine\n")
    done = _run("-c", path, "import-portsentry", make_etc(), "--write")
    assert done.returncode == 1
    assert "is there already and is left alone" in done.stderr
    assert path.read_text() == "# mine\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("link", ["nowhere", "sentryfw.toml"], ids=["dangling", "loop"])
def test_write_follows_no_link(make_etc: MakeEtc, tmp_path: Path, link: str) -> None:
    path = tmp_path / "sentryfw.toml"
    path.symlink_to(tmp_path / link)
    done = _run("-c", path, "import-portsentry", make_etc(), "--write")
    assert done.returncode == 1
    assert path.is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_no_portsentry_there_is_not_found(tmp_path: Path) -> None:
    done = _run("import-portsentry", tmp_path)
    assert done.returncode == 7
    assert "portsentry.conf: no such file" in done.stderr
