"""import-portsentry: PortSentry's files in, a sentryfw.toml out; those files stay as they are."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentryfw import config
from sentryfw.errors import SentryError
from sentryfw.portsentry.convert import Imported, convert
from sentryfw.portsentry.files import collect
from sentryfw.portsentry.render import MAX_SEEN, place, render

Say = Callable[[str], None]


def read(directory: Path | None, tcp_mode: str | None, udp_mode: str | None) -> Imported:
    """What follows from PortSentry's files. NotFound where there is none."""
    return convert(collect(directory), tcp_mode, udp_mode)


def toml(imported: Imported) -> str:
    """The configuration as text; checked, because it was put together by a program."""
    written = render(imported)
    config.parse(written.encode(), "the imported configuration")
    return written


def write(written: str, path: Path) -> None:
    """Make the file, whole or not at all. SentryError if there is one already."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=".sentryfw.toml.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.link(draft, path)  # fails where there is a file, whatever it is
    except FileExistsError:
        raise SentryError(
            f"{path} is there already and is left alone: move it away first"
        ) from None
    finally:
        Path(draft).unlink()


def say_remarks(imported: Imported, say: Say) -> None:
    """What the administrator has to know, beside the file."""
    for title, remarks in (
        ("not carried over", imported.unmapped),
        ("read the way it was meant", imported.warnings),
    ):
        for remark in remarks:
            say(f"{title}: {place(remark)}{remark.said}")
    if imported.seen:
        say(f"{len(imported.seen)} hosts stand in PortSentry's files; it names {MAX_SEEN} at most")


def as_json(imported: Imported, written: str) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "config": written,
        "keys": [line._asdict() for line in imported.lines],
        "not_carried_over": [remark._asdict() for remark in imported.unmapped],
        "warnings": [remark._asdict() for remark in imported.warnings],
        "seen": [{**seen._asdict(), "address": str(seen.address)} for seen in imported.seen],
        "sources": imported.sources,
    }
