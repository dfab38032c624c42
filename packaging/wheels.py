"""Build the wheels that packages are made of, below build/wheels/."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import compile_engine

Engine = Literal["compiled", "plain"]

ROOT: Final = Path(__file__).resolve().parent.parent
WHEELS: Final = ROOT / "build" / "wheels"
BIN: Final = ROOT / ".venv" / "bin"
MARK: Final = "made-of"
"""Name of the file with the locks that a folder's wheels were built from."""
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Version of Python that packages are for: the one that builds them, and whose headers
netfilterqueue is compiled with."""
BINDING: Final = "oxl-libnftables"
"""Binding of libnftables, for systems that have none for Python."""
NO_BUILD_ID: Final = "-Wl,--build-id=none"
"""Flag of the linker: its identifier would follow from pip's temporary folder."""
MACHINE: Final = platform.machine()
"""The processor that packages are for: that of the machine that builds them."""
MUSL_PLATFORM: Final = f"musllinux_1_1_{MACHINE}"
MUSL_FLAGS: Final = f"-idirafter /usr/include -idirafter /usr/include/{MACHINE}-linux-gnu"
"""Headers of the kernel and of libnetfilter_queue, after musl's own."""


def own_wheel(engine: Engine) -> Path:
    """Return this project's wheel, with or without the compiled engine."""
    if engine == "compiled":
        compile_engine.compile_engine()
    folder = WHEELS / "own"
    shutil.rmtree(folder, ignore_errors=True)
    words = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    _pip("wheel", *words, env={"SENTRYFW_ENGINE": engine})
    [wheel] = folder.glob("*.whl")
    return wheel


def glibc_wheels() -> list[Path]:
    """Return the wheels for glibc: those of the lock, compiled with Debian's flags where PyPI has
    none, and this project's."""
    folder = WHEELS / "glibc"
    if _is_stale(folder):
        flags = _build_flags()
        _pip(
            "wheel", "--no-cache-dir", "--no-build-isolation", "--require-hashes", "--requirement",
            ROOT / "requirements.lock", "--wheel-dir", folder, env=flags,
        )  # fmt: skip
        _mark(folder)
    return [*sorted(folder.glob("*.whl")), own_wheel("compiled")]


def musl_wheels() -> list[Path]:
    """Return the wheels for musl: PyPI's with that tag, netfilterqueue compiled by musl-gcc, and
    this project's, whose engine is not compiled."""
    folder = WHEELS / "musl"
    if _is_stale(folder):
        text = (ROOT / "requirements.lock").read_text()
        lock = folder / "requirements.lock"
        lock.write_text(without(text, "netfilterqueue") + only(_tool_lock(), BINDING))
        version = PYTHON.replace(".", "")
        _pip(
            "download", "--only-binary=:all:", "--platform", MUSL_PLATFORM, "--python-version",
            PYTHON, "--implementation", "cp", "--abi", f"cp{version}", "--abi", "abi3", "--abi",
            "none", "--require-hashes", "--no-deps", "--requirement", lock, "--dest", folder,
        )  # fmt: skip
        lock.write_text(only(text, "netfilterqueue"))
        flags = {
            "CC": "musl-gcc",
            "CFLAGS": f"-O2 -g0 {MUSL_FLAGS}",
            # The interpreter has the C library loaded; its name differs between distributions.
            "LDSHARED": f"musl-gcc -shared {NO_BUILD_ID} -nostdlib -L/usr/lib/{MACHINE}-linux-gnu",
        }
        _pip(
            "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--require-hashes",
            "--requirement", lock, "--wheel-dir", folder, env=flags,
        )  # fmt: skip
        _mark(folder)
    return [*sorted(folder.glob("*.whl")), own_wheel("plain")]


def _tool_lock() -> str:
    return (ROOT / "requirements-package.lock").read_text()


def only(lock: str, name: str) -> str:
    """Return the entry of one package in a lock."""
    [entry] = re.findall(rf"^{name}==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    return str(entry)


def without(lock: str, name: str) -> str:
    """Return a lock without the entry of one package."""
    return lock.replace(only(lock, name), "")


def _is_stale(folder: Path) -> bool:
    """Return whether wheels must be built again; the folder is empty then."""
    mark = folder / MARK
    if mark.exists() and mark.read_text() == _made_of():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def _mark(folder: Path) -> None:
    (folder / MARK).write_text(_made_of())


def _made_of() -> str:
    return (ROOT / "requirements.lock").read_text() + _tool_lock()


def _build_flags() -> dict[str, str]:
    """Return Debian's compiler and linker flags as environment variables."""
    environment = {**os.environ, "DEB_BUILD_MAINT_OPTIONS": "hardening=+bindnow"}
    found = {}
    for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS"):
        done = subprocess.run(
            ["dpkg-buildflags", "--get", name], capture_output=True, text=True, check=True,
            env=environment,
        )  # fmt: skip
        found[name] = done.stdout.strip()
    found["LDFLAGS"] += f" {NO_BUILD_ID}"
    return found


def _pip(*words: str | Path, env: dict[str, str] | None = None) -> None:
    command = [BIN / "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **(env or {})})
