"""Coverage-guided fuzzing of every target with atheris, within a budget of seconds.

    python tests/fuzz/run.py SECONDS [TARGET ...]     all of them, or some
    python tests/fuzz/run.py --merge [TARGET ...]     keep what covers most in the fewest bytes

Findings are written to tests/fuzz/findings/; once minimised and understood, it goes to
tests/fuzz/corpus/TARGET/ under a name that describes it, and stays there.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent
ROOT = HOME.parent.parent
CORPUS = HOME / "corpus"
FINDINGS = HOME / "findings"
MAX_BYTES = 4096
SLOWEST = 10
"""Seconds that one input may take."""
MEMORY_MIB = 1024


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["--one"]:
        _fuzz(words[1], words[2:])
        return
    targets = sorted(path.name for path in CORPUS.iterdir())
    if words[:1] == ["--merge"]:
        for name in words[1:] or targets:
            _merge(name)
        return
    seconds, names = float(words[0]), words[1:] or targets
    failed = [name for name in names if not _run(name, seconds / len(names))]
    if failed:
        sys.exit(f"fuzz: findings in {FINDINGS}: {', '.join(failed)}")


def _run(name: str, seconds: float) -> bool:
    """Run a target; return whether it passed."""
    FINDINGS.mkdir(exist_ok=True)
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as new:
        started = time.monotonic()
        options = [
            f"-max_total_time={max(1, round(seconds))}", f"-max_len={MAX_BYTES}",
            f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY_MIB}", "-print_final_stats=1",
            f"-artifact_prefix={FINDINGS}/{name}-",
        ]  # fmt: skip
        done = _child("--one", name, *options, new, str(corpus))
        took = time.monotonic() - started
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        count = runs[-1].split()[-1] if runs else "?"
        grown = len(list(Path(new).iterdir()))
    said = "stood it" if done.returncode == 0 else "FOUND SOMETHING"
    print(f"fuzz: {name}: {count} inputs in {took:.0f} s, {grown} of them new: {said}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:] + done.stderr[-6000:], flush=True)
    return done.returncode == 0


def _merge(name: str) -> None:
    """Reduce a corpus to the smallest set with the coverage of a run of a minute."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory() as grown, tempfile.TemporaryDirectory() as small:
        options = ("-max_total_time=60", f"-max_len={MAX_BYTES}", f"-timeout={SLOWEST}")
        _child("--one", name, *options, grown, str(corpus))
        _child("--one", name, "-merge=1", small, grown, str(corpus))
        kept = [path.read_bytes() for path in Path(small).iterdir()]
    for path in corpus.glob("seed-*"):
        path.unlink()
    for number, data in enumerate(sorted(kept, key=lambda data: (len(data), data))):
        (corpus / f"seed-{number:03}").write_bytes(data)
    print(f"fuzz: {name}: {len(kept)} inputs kept", flush=True)


def _child(*words: str) -> subprocess.CompletedProcess[str]:
    dependencies = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(ROOT), str(HOME), str(HOME.parent), dependencies])
    return subprocess.run(
        [sys.executable, "-P", str(HOME / "run.py"), *words], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def _fuzz(name: str, options: list[str]) -> None:
    import atheris  # noqa: PLC0415 - of requirements-fuzz.lock

    from bench import plain_engine  # noqa: PLC0415 - found in the child only

    plain_engine.install()  # atheris instruments Python code
    with atheris.instrument_imports(include=["sentryfw"]):
        from targets import TARGETS  # noqa: PLC0415

    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *options], lambda data: target(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
