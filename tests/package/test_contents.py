"""The contents of packages, without building one: pages, completions, configuration, scripts."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import wheels

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.setup.unit_files import FILES
from support.box import BIN

PACKAGING: Final = Path(__file__).resolve().parent.parent.parent / "packaging"
pytestmark = pytest.mark.filterwarnings("ignore:'click:DeprecationWarning")
"""typer warns when it is imported."""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PACKAGING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> Iterator[Any]:
    yield load("pages")
    del sys.modules["pages"]


@pytest.fixture(scope="module")
def build(pages: Any) -> Iterator[Any]:
    assert pages
    yield load("build")
    del sys.modules["build"]


def test_the_shipped_configuration_is_the_default(pages: Any) -> None:
    text = pages.configuration()
    assert config.parse(text.encode(), "shipped") == Config()
    assert not any(tomllib.loads(text)[section].get("mode") for section in ("watch", "detect"))


def test_a_key_of_the_shipped_configuration_is_set_by_removing_its_comment_sign(pages: Any) -> None:
    text = re.sub(r"^# (trigger = )3", r"\g<1>7", pages.configuration(), flags=re.MULTILINE)
    assert config.parse(text.encode(), "edited").detect.trigger == 7


def test_openwrt_keeps_its_state_on_flash(pages: Any) -> None:
    text = pages.configuration(state="/etc/sentryfw/state")
    parsed = config.parse(text.encode(), "openwrt")
    assert str(parsed.paths.state) == "/etc/sentryfw/state"
    assert parsed.model_copy(update={"paths": Config().paths}) == Config()


def test_the_manual_has_every_command_and_every_key(pages: Any) -> None:
    manual = pages.page("sentryfw.8", 0.0)
    names = pages.get_command(pages.app).commands
    assert len(names) > 10
    assert [name for name in names if f"\\fB{pages.roff(name)}\\fR" not in manual] == []
    assert "1970-01-01" in manual
    keys = pages.page("sentryfw.toml.5", 0.0)
    assert "[respond.mail]" in keys
    assert "per_minute = 6000" in keys


def test_the_manual_has_every_subcommand_option_and_example(pages: Any) -> None:
    manual = pages.page("sentryfw.8", 0.0)
    for name in ("allow add", "allow del", "allow import", "config show", "config set"):
        assert f"\\fB{name}\\fR" in manual, name
    for names in pages.SECTIONS.values():
        for name in names:
            command = pages.Commands.load(name)
            for option in (text for parameter in command.params for text in parameter.opts):
                assert not option.startswith("--") or pages.roff(option) in manual, (name, option)
    for lines in pages.EXAMPLES.values():
        assert [line for line in lines if pages.roff(line) not in manual] == []


def test_a_change_needs_a_reload_not_a_restart(pages: Any) -> None:
    for name in pages.PAGES:
        assert "systemctl restart" not in pages.page(name, 0.0)
    assert "sentryfw reload" in pages.configuration()


@pytest.mark.parametrize("takes_context", [True, False])
def test_the_name_of_an_argument_with_old_and_new_click(pages: Any, *, takes_context: bool) -> None:
    class Old:
        def make_metavar(self) -> str:
            return "ADDR"

    class New:
        def make_metavar(self, ctx: object) -> str:
            return f"ADDR of {ctx}"

    argument: Any = New() if takes_context else Old()
    assert pages.metavar(argument, "click") == ("ADDR of click" if takes_context else "ADDR")


def test_text_of_a_page_is_not_a_request_to_roff(pages: Any) -> None:
    assert pages.roff(".so /etc/shadow") == "\\&.so /etc/shadow"
    assert pages.roff("a-b\\n'x") == "a\\-b\\en\\(aqx"


def tab(shell: str, script: Path) -> list[str]:
    """Return a shell's completions of "sentryfw unb", with the shipped script loaded."""
    program = {
        "bash": 'source "$1"; COMP_WORDS=(sentryfw unb); COMP_CWORD=1; _sentryfw_completion '
        'sentryfw; printf "%s\\n" "${COMPREPLY[@]}"',
        "fish": 'source $argv[1]; complete --do-complete "sentryfw unb"',
    }
    words = {"bash": ["bash", "-c", program["bash"], "bash", script]}.get(
        shell, ["fish", "--no-config", "-c", program["fish"], script]
    )
    path = f"{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        words, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands(pages: Any, shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "completion"
    script.write_text(pages.completion(shell))
    assert tab(shell, script) == ["unblock"]


def test_the_program_answers_the_script_for_zsh(pages: Any) -> None:
    """zsh completes on a terminal only, so the program gets the variables that the script sets."""
    script = pages.completion("zsh")
    variables = {"_SENTRYFW_COMPLETE": "complete_zsh", "COMP_WORDS": "sentryfw unb"}
    assert "_SENTRYFW_COMPLETE=complete_zsh" in script
    assert script.startswith("#compdef sentryfw\n")
    done = subprocess.run(
        [BIN / "sentryfw"], env={**os.environ, **variables, "COMP_CWORD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[:2] == ["plain", "unblock"]


def test_the_shipped_unit_equals_the_one_that_install_writes(build: Any, tmp_path: Path) -> None:
    build.lay_out.systemd(tmp_path, "lib/systemd/system")
    unit = (tmp_path / "lib/systemd/system/sentryfw.service").read_text()
    assert "ExecStart=/usr/lib/sentryfw/bin/sentryfwd --config /etc/sentryfw/sentryfw.toml" in unit
    assert "ProtectHome=yes" in unit, "on any building host"
    for place in FILES.values():
        if not place.endswith(".service"):
            text = (tmp_path / "usr/lib" / place).read_text()
            assert re.findall(r"@\w+@", text) == []
    modules = (tmp_path / "usr/lib/modules-load.d/sentryfw.conf").read_text()
    assert "xt_NFQUEUE" in modules, "with any building kernel"


def test_a_package_is_for_the_processor_that_built_it(build: Any) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("no dpkg here")
    done = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    assert build.ARCHITECTURES[wheels.MACHINE] == done.stdout.strip()
    assert "arch: ${SENTRYFW_ARCH}\n" in (PACKAGING / "nfpm.yaml").read_text()


SCRIPTS: Final = [
    path
    for path in sorted(PACKAGING.glob("*/*"))
    if path.parent.name not in {"__pycache__", "apparmor", "selinux"}
    and path.stem not in {"lintian", "lintian-cockpit", "logrotate"}
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_maintainer_script_is_valid_shell(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "script", [path for path in SCRIPTS if path.name in {"postinst", "post", "post-install"}],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)  # fmt: skip
def test_installing_shows_the_first_command_and_starts_nothing(script: Path) -> None:
    text = script.read_text()
    assert "First run: sentryfw install --trial 5m" in text
    assert re.findall(r"systemctl\s+(?:enable|start)|rc-service \S+ start$", text) == []


def test_a_lock_is_split_by_package() -> None:
    first = "a==1 \\\n    --hash=sha256:1\n    # via x\n"
    second = "bc==2 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n"
    assert wheels.only(first + second, "bc") == second
    assert wheels.without(first + second, "bc") == first
