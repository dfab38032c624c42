"""check, config, metrics, reload: the configuration, and the metrics that it asks for."""

import os
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import sentryfw.config
from sentryfw.cli import output
from sentryfw.cli.answers import ask
from sentryfw.cli.arguments import (
    Json,
    config_path,
    keep_last_good,
    load_config,
    load_faultless,
    load_path,
    new_app,
    new_group,
    warn,
)
from sentryfw.cli.config_edit import change, complete_keys, value_text
from sentryfw.cli.output import Row
from sentryfw.config import Loaded
from sentryfw.config.edit import Edited, with_key, without_key
from sentryfw.config.files import KeyPath, flatten
from sentryfw.config.model import Config
from sentryfw.daemon.metrics.collect import text_of_none
from sentryfw.errors import ConfigError, NoPrivilege, NotRunning, SentryError
from sentryfw.query.review import ConfigRemark, review
from sentryfw.text import counted

SHOWN: Final = ("key", "value", "from")
DIFFERENT: Final = ("key", "value", "other", "of", "from")
RELOAD_TIMEOUT_S: Final = 60.0
"""Seconds for a reload, which installs the table in a separate Python process."""
SCHEMA: Final = "sentryfw.schema.json"
METRICS_TIMEOUT_S: Final = 60.0

app = new_app()
Key = Annotated[
    str,
    typer.Argument(metavar="KEY", autocompletion=complete_keys, help="Such as detect.trigger."),
]
NoReload = Annotated[
    bool, typer.Option("--no-reload", help="Do not make the daemon load it; a restart will.")
]

group = new_group("Show and change the configuration.")
app.add_typer(group, name="config")


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A configuration; default: that of -c.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a fault.")] = False,
    json: Json = False,
) -> None:
    """Check the configuration and report every fault.

    The files that it names are read, and its names are compared with this host, as the daemon
    would. It refuses a configuration with a fault (exit code 78); a warning is probably a mistake.
    """
    named = file or config_path(context)
    where = str(named or sentryfw.config.DEFAULT_PATH)
    faults, remarks = check_file(named)
    warnings = [str(remark) for remark in remarks if not remark.is_fault]
    faults += (f"{where}: {remark}" for remark in remarks if remark.is_fault)
    if json:
        shown = [fault.removeprefix(f"{where}: ") for fault in faults]
        output.print_json(
            {"config": where, "ok": not faults, "faults": shown, "warnings": warnings}
        )
    else:
        for warning in warnings:
            warn(f"warning: {where}: {warning}")
        for fault in faults:
            warn(fault)
        typer.echo(_summary(where, len(faults), len(warnings)))
    if faults or (strict and warnings):
        raise typer.Exit(ConfigError.exit_code)


def check_file(path: Path | None) -> tuple[list[str], list[ConfigRemark]]:
    """Return the faults of the files of a configuration, with their names, and the remarks on a
    configuration without one."""
    try:
        loaded = load_path(path)
    except ConfigError as error:
        return str(error).split("\n"), []
    from sentryfw.respond.mail import read_credentials  # noqa: PLC0415 - one command needs it

    return [], review(loaded.config, read_credentials)


def _summary(where: str, faults: int, warnings: int) -> str:
    if faults:
        return f"{where}: {counted(faults, 'fault')}"
    found = "ok" if Path(where).exists() else "does not exist; the defaults apply"
    more = f", {counted(warnings, 'warning')}" if warnings else ""
    return f"{where}: {found}{more}"


@group.command("show")
def show_command(context: typer.Context, json: Json = False) -> None:
    """Show every key with its value, and the file that sets it."""
    shown = show(load_faultless(context))
    if json:
        output.print_json(shown)
    else:
        output.print_rows(shown["keys"], SHOWN, f"{len(shown['files'])} files")


@group.command("diff")
def diff_command(context: typer.Context, json: Json = False) -> None:
    """Show the keys that differ from the defaults, and from the running daemon's."""
    found = diff(load_faultless(context))
    if json:
        output.print_json(found)
        return
    if found["running"] is None:
        output.note("the daemon is not running: compared with the defaults only")
    rows = diff_rows(found)
    output.print_rows(rows, DIFFERENT, f"{len(rows)} differences")


@group.command("set", context_settings={"ignore_unknown_options": True})
def set_command(
    context: typer.Context,
    key: Key,
    words: Annotated[
        list[str],
        typer.Argument(metavar="VALUE...", help="Text, a number, or TOML; a list: several."),
    ],
    no_reload: NoReload = False,
) -> None:
    """Set a key in conf.d/99-set.toml, check everything, and reload the daemon."""
    path = config_path(context)
    _change(context, key, lambda: with_key(path, key, words), reload_too=not no_reload)


@group.command("unset")
def unset_command(context: typer.Context, key: Key, no_reload: NoReload = False) -> None:
    """Remove a key that `config set` has set, check everything, and reload the daemon."""
    path = config_path(context)
    _change(context, key, lambda: without_key(path, key), reload_too=not no_reload)


@group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    sys.stdout.write((resources.files("sentryfw") / "data" / SCHEMA).read_text())


@app.command()
def metrics(context: typer.Context) -> None:
    """Print the daemon's metrics in Prometheus' text format."""
    text, is_running = read_metrics(load_config(context))
    sys.stdout.write(text)
    if not is_running:
        raise typer.Exit(NotRunning.exit_code)


@app.command()
def reload(context: typer.Context) -> None:
    """Make the daemon load its configuration again. A configuration with a fault is refused."""
    loaded = load_faultless(context)
    typer.echo(reload_daemon(loaded.config))
    if os.geteuid() == 0:  # not as the service's ExecReload=
        keep_last_good(context, loaded)


def show(loaded: Loaded) -> dict[str, Any]:
    """Return every key with its value, its default, and the file that set it."""
    return {"files": list(loaded.sources.files), "keys": _keys(loaded)}


def diff(loaded: Loaded) -> dict[str, Any]:
    """Return the keys that differ from the defaults, and from the daemon's configuration; the
    latter are None if the daemon is not running."""
    keys = _keys(loaded)
    running = _running(loaded.config)
    return {
        "files": list(loaded.sources.files),
        "defaults": [row for row in keys if row["value"] != row["default"]],
        "running": None if running is None else _differences(keys, running),
    }


def diff_rows(found: dict[str, Any]) -> list[Row]:
    """Return the result of diff() as the rows of one table."""
    rows = [{**row, "other": row["default"], "of": "default"} for row in found["defaults"]]
    differences = found["running"] or ()
    return rows + [{**row, "other": row["running"], "of": "running daemon"} for row in differences]


def read_metrics(config: Config) -> tuple[str, bool]:
    """Return the metrics as text, and whether the daemon is running."""
    try:
        return str(ask(config.paths.control, {"do": "metrics"}, METRICS_TIMEOUT_S)["text"]), True
    except NotRunning:
        return text_of_none(), False


def reload_daemon(config: Config) -> str:
    """Make the daemon load the configuration on disk, and return the changed keys as a line.
    Raise NotRunning without a daemon, SentryError with the daemon's reason if it refuses."""
    try:
        changed = ask(config.paths.control, {"do": "reload"}, RELOAD_TIMEOUT_S)["changed"]
    except (NotRunning, NoPrivilege):
        raise
    except SentryError as error:
        refused = SentryError(f"{error}\nrefused: the daemon keeps its present configuration")
        refused.exit_code = error.exit_code
        raise refused from None
    if not changed:
        return "reloaded: nothing has changed"
    return f"reloaded: {', '.join(changed)}"


def _change(
    context: typer.Context, key: str, edit: Callable[[], Edited], *, reload_too: bool
) -> None:
    """Change one key, and print its new value and what came of the reload."""
    done: list[Edited] = []

    def apply(edited: Edited) -> str:
        done.append(edited)
        if not reload_too or edited.loaded is None:
            return "not reloaded: `sentryfw reload` or a restart applies it"
        said = reload_daemon(edited.loaded.config)
        keep_last_good(context, edited.loaded)
        return said

    lines = change(config_path(context), edit, apply)
    for line in (value_text(done[0], key), *lines):
        typer.echo(line)


def _keys(loaded: Loaded) -> list[Row]:
    values, defaults = _flat(loaded.config), _flat(Config())
    return [
        {
            "key": ".".join(path),
            "value": values.get(path),
            "default": defaults.get(path),
            "from": loaded.sources.origins.get(path, "default"),
        }
        for path in dict.fromkeys([*values, *defaults])
    ]


def _differences(keys: list[Row], running: dict[str, Any]) -> list[Row]:
    there = {".".join(path): value for path, value in flatten(running)}
    mine = {row["key"]: row for row in keys}
    missing = {"value": None, "from": "default"}
    return [
        {
            "key": key, "value": row["value"], "running": there.get(key), "from": row["from"],
        }
        for key in dict.fromkeys([*mine, *there])
        if (row := mine.get(key, missing))["value"] != there.get(key)
    ]  # fmt: skip


def _flat(config: Config) -> dict[KeyPath, Any]:
    return dict(flatten(config.model_dump(mode="json")))


def _running(config: Config) -> dict[str, Any] | None:
    """Return the daemon's configuration; None if it is not running."""
    try:
        answer = ask(config.paths.control, {"do": "config"})
    except NotRunning:
        return None
    found = answer["config"]
    return found if isinstance(found, dict) else None
