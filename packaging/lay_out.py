"""Lay out the files that every package has beside the program: commands, units, manual pages,
completions, documents, configuration.

    python packaging/lay_out.py TREE    what debian/rules adds to the installed modules
"""

import gzip
import os
import sys
from pathlib import Path
from typing import Final

import pages

from sentryfw.config import DEFAULT_PATH
from sentryfw.config.model import Paths
from sentryfw.setup import unit_files

ROOT: Final = Path(__file__).resolve().parent.parent
OWN: Final = ROOT / "packaging"
HOME: Final = Path("usr/lib/sentryfw")
"""Place of the commands, and of the private environment, below the root."""
PROGRAMS: Final = (
    ("sentryfw", "sentryfw.cli.app"),
    ("sentryfwd", "sentryfw.daemon.main"),
    ("sentryfw-link", "sentryfw.fleet.link.main"),
)


def commands(tree: Path, interpreter: str) -> None:
    """Write the commands."""
    for name, module in PROGRAMS:
        # -I: neither the environment nor the directory of the caller adds code that root runs.
        text = f"#!{interpreter} -I\nfrom {module} import main\n\nmain()\n"
        script(tree / HOME / "bin" / name, text)


def links(tree: Path) -> None:
    """Link the commands to their usual places."""
    for link, name in (("usr/bin/sentryfw", "sentryfw"), ("usr/sbin/sentryfwd", "sentryfwd")):
        path = tree / link
        path.parent.mkdir(parents=True)
        path.symlink_to(Path("..") / HOME.relative_to("usr") / "bin" / name)


def systemd(tree: Path, units: str = "usr/lib/systemd/system") -> None:
    """Write the units and other system files that `sentryfw install` would write below /etc."""
    home = Path("/") / HOME
    described = unit_files.Service(
        home / "bin" / "sentryfwd",
        DEFAULT_PATH,
        Paths(),
        prefix=home,
        python=Path("/usr/bin/python3"),
    )
    texts = unit_files.rendered(described)
    # All modules, not only those that the building host needs.
    texts["modules-load.conf"] = unit_files.template("modules-load.conf")
    for name, place in unit_files.FILES.items():
        relative = place.replace("systemd/system", units) if name == unit_files.UNIT else place
        write(tree / ("" if name == unit_files.UNIT else "usr/lib") / relative, texts[name])
    link = unit_files.LINK_PLACE.replace("systemd/system", units)
    write(tree / link, unit_files.rendered_link(described))


def services(tree: Path, kind: str) -> None:
    """Write the services of the daemon and of the link, where there is no systemd. `kind`: the
    directory of their scripts."""
    for path in (OWN / kind).glob("*.initd"):
        script(tree / "etc/init.d" / path.stem, path.read_text())


def papers(tree: Path, when: float) -> None:
    """Write manual pages and completions."""
    for name in pages.PAGES:
        compress(tree / f"usr/share/man/man{name[-1]}/{name}.gz", pages.page(name, when))
    for shell, place in pages.COMPLETIONS.items():
        write(tree / place, pages.completion(shell))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def script(path: Path, text: str) -> None:
    write(path, text, 0o755)


def compress(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    path.chmod(0o644)


def main() -> None:
    tree = Path(sys.argv[1])
    commands(tree, "/usr/bin/python3")
    links(tree)
    systemd(tree)
    papers(tree, float(os.environ["SOURCE_DATE_EPOCH"]))
    write(tree / "etc/sentryfw/sentryfw.toml", pages.configuration())
    write(tree / "etc/logrotate.d/sentryfw", (OWN / "common" / "logrotate").read_text())
    write(tree / "etc/apparmor.d/sentryfwd", (OWN / "apparmor" / "sentryfwd").read_text())


if __name__ == "__main__":
    main()
