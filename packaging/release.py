"""Check that the tree is a release, and write the manifest of what was built: `make release`.

    python packaging/release.py check       version, changelogs and tag fit together
    python packaging/release.py manifest    dist/SHA256SUMS, and how to sign it

Nothing is signed: no key is in the tree.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from lay_out import ROOT

from sentryfw import __version__

DIST: Final = ROOT / "dist"
MANIFEST: Final = "SHA256SUMS"
SIGN: Final = f"""\
Sign, with a key of your own (one of these), and publish the signature beside the files:
    minisign -S -m dist/{MANIFEST}
    signify-openbsd -S -s KEY.sec -m dist/{MANIFEST}
    gpg --armor --detach-sign dist/{MANIFEST}
The source package for Debian: debsign ../sentryfw_*_source.changes
"""


def faults(root: Path, version: str, tags: list[str]) -> list[str]:
    """Return what keeps the tree from being the release of this version. `tags`: of its commit."""
    found = []
    section = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(section, (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        found.append(f"CHANGELOG.md has no section: ## [{version}] - YYYY-MM-DD")
    first = (root / "debian" / "changelog").read_text().partition("\n")[0]
    if not first.startswith(f"sentryfw ({version}-"):
        found.append(f"debian/changelog begins with another version: {first}")
    if f"v{version}" not in tags:
        found.append(f"the commit has no tag: git tag -s v{version}")
    return found


def manifest(folder: Path) -> str:
    """Return the hash of every file in a folder, as sha256sum(1) prints and checks them."""
    files = (path for path in sorted(folder.iterdir()) if path.name != MANIFEST)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files
    )


def main() -> None:
    if sys.argv[1:] == ["manifest"]:
        (DIST / MANIFEST).write_text(manifest(DIST))
        sys.stdout.write(f"{(DIST / MANIFEST).read_text()}\n{SIGN}")
    elif sys.argv[1:] == ["check"]:
        found = faults(ROOT, __version__, _git("tag", "--points-at", "HEAD"))
        if _git("status", "--porcelain"):
            found.append("the work tree has changes that are not committed")
        if found:
            sys.exit("".join(f"release.py: {fault}\n" for fault in found).rstrip())
    else:
        sys.exit(str(__doc__))


def _git(*words: str) -> list[str]:
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )  # fmt: skip
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
