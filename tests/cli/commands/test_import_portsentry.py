"""import-portsentry: a valid configuration, written once, over no existing file."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfw import config
from support.portsentry_etc import write_etc

PAGES = Path(__file__).parents[3] / "packaging" / "pages.py"
SENTRYFW = Path(sys.executable).parent / "sentryfw"


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (SENTRYFW, *words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_output_is_a_configuration(tmp_path: Path) -> None:
    done = _run(
        "import-portsentry", write_etc(tmp_path), "--tcp-mode", "stcp", "--udp-mode", "sudp"
    )
    assert done.returncode == 0, done.stderr
    made = config.parse(done.stdout.encode(), "stdout")
    assert made.watch.trap_tcp == ((1, 1), (11, 11), (15, 15))


def test_a_file_and_its_directory_give_the_same(tmp_path: Path) -> None:
    etc = write_etc(tmp_path)
    assert _run("import-portsentry", etc / "portsentry.conf").stdout == (
        _run("import-portsentry", etc).stdout
    )


def test_json_has_the_whole_import(tmp_path: Path) -> None:
    done = _run("import-portsentry", write_etc(tmp_path, 'SCAN_TRIGGER="2"\nhello\n'), "--json")
    found = json.loads(done.stdout)
    assert config.parse(found["config"].encode(), "json").detect.trigger == 2
    assert {"section": "detect", "key": "trigger", "value": 2,
            "origin": 'portsentry.conf line 10: SCAN_TRIGGER="2", which fires on hit 2',
            } in found["keys"]  # fmt: skip
    assert any(remark["line"] == 11 for remark in found["warnings"])
    assert any("blocks without end" in remark["said"] for remark in found["not_carried_over"])


def test_write_makes_the_file_once_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sentryfw.toml"
    done = _run("-c", path, "import-portsentry", write_etc(tmp_path), "--write")
    assert done.returncode == 0, done.stderr
    assert f"wrote {path}" in done.stderr
    assert "not carried over: blocks without end" in done.stderr
    assert path.stat().st_mode & 0o7777 == 0o644
    assert _run("-c", path, "check").returncode == 0
    path.write_text("[detect]\ntrigger = 4\n")
    done = _run("-c", path, "import-portsentry", write_etc(tmp_path), "--write")
    assert done.returncode == 1
    assert "exists already, with keys of its own, and was not changed" in done.stderr
    assert path.read_text() == "[detect]\ntrigger = 4\n"
    assert list(path.parent.iterdir()) == [path]


def test_write_replaces_the_configuration_of_a_package_and_keeps_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "sentryfw.toml"
    shipped = runpy.run_path(str(PAGES))["configuration"]()
    path.write_text(shipped)
    done = _run("-c", path, "import-portsentry", write_etc(tmp_path), "--write")
    assert done.returncode == 0, done.stderr
    assert config.load(path).watch.mode == "traps"
    assert path.with_name("sentryfw.toml~").read_text() == shipped


@pytest.mark.parametrize("content", [b"detect = [", b"\xff", b"[detect]\n[queue]\nnumber = 5"])
def test_write_replaces_no_file_that_may_hold_keys(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sentryfw.toml"
    path.write_bytes(content)
    done = _run("-c", path, "import-portsentry", write_etc(tmp_path), "--write")
    assert done.returncode == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["root:x:0:0::/root:/bin/sh\n", "", "\0\xff", "a = 1\n"])
def test_a_file_without_an_option_of_portsentry_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "passwd"
    path.write_text(content)
    done = _run("import-portsentry", path)
    assert (done.returncode, done.stdout) == (7, "")
    assert "sets none of PortSentry's options" in done.stderr


@pytest.mark.parametrize("option", ["--tcp-mode", "--udp-mode"])
def test_a_mode_that_portsentry_does_not_have_is_refused(tmp_path: Path, option: str) -> None:
    done = _run("import-portsentry", write_etc(tmp_path), option, "bogus")
    name = option[2:5]
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'bogus' is not a mode: write {name}, s{name}, a{name} or off" in done.stderr
    assert _run("import-portsentry", write_etc(tmp_path / "b"), option, "OFF").returncode == 0


@pytest.mark.parametrize("link", ["nowhere", "sentryfw.toml"], ids=["dangling", "loop"])
def test_write_follows_no_link(tmp_path: Path, link: str) -> None:
    path = tmp_path / "sentryfw.toml"
    path.symlink_to(tmp_path / link)
    done = _run("-c", path, "import-portsentry", write_etc(tmp_path), "--write")
    assert done.returncode == 1
    assert path.is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_without_portsentry_is_not_found(tmp_path: Path) -> None:
    done = _run("import-portsentry", tmp_path)
    assert done.returncode == 7
    assert "portsentry.conf does not exist" in done.stderr
