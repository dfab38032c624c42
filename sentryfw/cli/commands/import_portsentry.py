"""import-portsentry: a sentryfw.toml from PortSentry's files, which are not changed."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sentryfw import config
from sentryfw.cli import output
from sentryfw.cli.arguments import Json, config_path, new_app
from sentryfw.config.files import MAX_CONFIG_BYTES, flatten, to_table
from sentryfw.errors import ConfigError, SentryError, UsageError
from sentryfw.host.private_files import open_no_link
from sentryfw.host.signals import held
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.imported import Imported
from sentryfw.tools.portsentry.modes import mode_of
from sentryfw.tools.portsentry.render import MAX_SEEN, place, render

Say = Callable[[str], None]

app = new_app()


@app.command()
def import_portsentry(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR|FILE", help="Default: /etc/portsentry.", show_default=False),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write the configuration file; one that sets a key is not replaced."
        ),
    ] = False,
    tcp_mode: Annotated[
        str | None, typer.Option(help="tcp, stcp, atcp or off, if no file sets it.")
    ] = None,
    udp_mode: Annotated[
        str | None, typer.Option(help="udp, sudp, audp or off, if no file sets it.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert PortSentry's configuration. Every key states its origin."""
    imported = read(directory, tcp_mode, udp_mode)
    written = toml(imported)
    if write:
        path = config_path(context) or config.DEFAULT_PATH
        with held():
            write_new(written, path)
        output.note(f"wrote {path}; next: sentryfw check, sentryfw install")
        report_remarks(imported, output.note)
    if json:
        output.print_json(as_json(imported, written))
    elif not write:
        sys.stdout.write(written)


def read(directory: Path | None, tcp_mode: str | None, udp_mode: str | None) -> Imported:
    """Convert PortSentry's files. Raise NotFound if there are none, UsageError for modes that
    PortSentry does not have."""
    for option, word in (("--tcp-mode", tcp_mode), ("--udp-mode", udp_mode)):
        if word is not None and mode_of(word) is None:
            name = option[2:5]
            known = f"{name}, s{name}, a{name} or off"
            raise UsageError(f"{option}: {word!r} is not a mode: write {known}")
    return convert(collect(directory), tcp_mode, udp_mode)


def toml(imported: Imported) -> str:
    """Return the configuration as TOML, which is checked to be valid."""
    written = render(imported)
    config.parse(written.encode(), "the imported configuration")
    return written


def write_new(written: str, path: Path) -> None:
    """Create a file atomically. One that sets no key, as packages install it, is renamed to
    NAME~. Raise SentryError if another one is there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=".sentryfw.toml.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        if _sets_nothing(path):
            path.replace(path.with_name(f"{path.name}~"))
        os.link(draft, path)  # fails if the path exists, even as a dangling link
    except FileExistsError:
        raise SentryError(
            f"{path} exists already, with keys of its own, and was not changed: move it away first"
        ) from None
    finally:
        Path(draft).unlink()


def _sets_nothing(path: Path) -> bool:
    """Return whether a path is a configuration file, no link, in which every key is a comment."""
    try:
        with os.fdopen(open_no_link(path, os.O_RDONLY), "rb") as file:
            table = to_table(file.read(MAX_CONFIG_BYTES + 1), str(path))
    except (OSError, ConfigError):
        return False
    return all(value == {} for _, value in flatten(table))


def report_remarks(imported: Imported, say: Say) -> None:
    """Report what was not carried over, or was interpreted."""
    for title, remarks in (
        ("not carried over", imported.unmapped),
        ("interpreted", imported.warnings),
    ):
        for remark in remarks:
            say(f"{title}: {place(remark)}{remark.said}")
    if imported.seen:
        say(
            f"{len(imported.seen)} hosts are in PortSentry's files; the file names up to {MAX_SEEN}"
        )


def as_json(imported: Imported, written: str) -> dict[str, Any]:
    """Return the whole import for `--json`."""
    return {
        "config": written,
        "keys": [line._asdict() for line in imported.lines],
        "not_carried_over": [remark._asdict() for remark in imported.unmapped],
        "warnings": [remark._asdict() for remark in imported.warnings],
        "seen": [{**seen._asdict(), "address": str(seen.address)} for seen in imported.seen],
        "sources": imported.sources,
    }
