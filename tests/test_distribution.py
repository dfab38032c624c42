"""Differences between distributions: imports from their directories, service managers."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sentryfw import distribution
from sentryfw.distribution import distribution_packages, service_command

ROOT: Final = Path(__file__).resolve().parent.parent
SIGN: Final = """\
import sys
sys.path.insert(0, sys.argv[1])
from sentryfw.fleet.signature import Signer, verify
signer = Signer(bytes(32))
assert verify(signer.public_key(), b"entry", signer.sign(b"entry"))
assert not verify(signer.public_key(), b"another", signer.sign(b"entry"))
print(sys.modules["cryptography"].__file__, "redis" in sys.modules, *sys.path)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the distribution, with a package that needs another one there, and with one
    that the environment has."""
    place = tmp_path / "dist-packages"
    (place / "sentryfw_apart").mkdir(parents=True)
    (place / "sentryfw_apart" / "__init__.py").write_text("import sentryfw_apart_needs\n")
    (place / "sentryfw_apart" / "later.py").write_text("VALUE = 7\n")
    (place / "sentryfw_apart_needs.py").touch()
    (place / "pydantic").mkdir()
    (place / "pydantic" / "__init__.py").write_text("raise ImportError('the other one')\n")
    monkeypatch.setattr(distribution, "DIRECTORIES", (str(place),))
    for name in ("sentryfw_apart", "sentryfw_apart.later", "sentryfw_apart_needs", "pydantic"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return place


def test_a_package_and_what_it_needs_are_found(directory: Path) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sentryfw_apart")
    before = list(sys.path)
    with distribution_packages():
        module = importlib.import_module("sentryfw_apart")
    assert module.__file__ == str(directory / "sentryfw_apart" / "__init__.py")
    assert sys.path == before
    assert importlib.import_module("sentryfw_apart.later").VALUE == 7


@pytest.mark.usefixtures("directory")
def test_nothing_is_found_there_afterwards_nor_after_a_failure() -> None:
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match="sentryfw_nowhere"), distribution_packages():
        importlib.import_module("sentryfw_nowhere")
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sentryfw_apart")


def test_a_package_of_the_environment_is_not_replaced(directory: Path) -> None:
    with distribution_packages():
        found = importlib.util.find_spec("pydantic")
    assert found is not None
    assert not str(found.origin).startswith(str(directory))


@pytest.mark.usefixtures("directory")
def test_a_directory_that_is_searched_anyway_stays() -> None:
    sys.path.append(distribution.DIRECTORIES[0])
    try:
        with distribution_packages():
            pass
        assert sys.path.count(distribution.DIRECTORIES[0]) == 1
    finally:
        sys.path.remove(distribution.DIRECTORIES[0])


def test_signatures_by_the_packages_of_the_distribution() -> None:
    """Without the environment's packages, as in our packages."""
    places = [Path(place) for place in distribution.DIRECTORIES]
    if not any((place / "cryptography").is_dir() for place in places):
        pytest.skip("the distribution's cryptography is not installed here")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SIGN, ROOT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    origin, redis, *path = done.stdout.split()
    assert any(Path(origin).is_relative_to(place) for place in places)
    assert redis == "False"
    assert not set(path) & set(distribution.DIRECTORIES)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("run/systemd/system", "systemctl status sentryfw-link"),
        ("sbin/openrc-run", "rc-service sentryfw-link status"),
        ("sbin/procd", "/etc/init.d/sentryfw-link status"),
        ("etc", "systemctl status sentryfw-link"),
    ],
)
def test_a_service_is_named_with_the_command_of_its_manager(
    tmp_path: Path, manager: str, command: str
) -> None:
    (tmp_path / manager).mkdir(parents=True)
    assert service_command("status", "sentryfw-link", root=tmp_path) == command
