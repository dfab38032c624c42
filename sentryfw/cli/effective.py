"""config show, config diff, reload, metrics: what the daemon goes by, and what it counts."""

from typing import Any, Final

from sentryfw.cli.output import Row
from sentryfw.config import Config, Loaded
from sentryfw.config_files import KeyPath, flatten
from sentryfw.control import ask
from sentryfw.errors import NoPrivilege, NotRunning, SentryError
from sentryfw.metrics.collect import text_of_none

SHOWN: Final = ("key", "value", "from")
DIFFERENT: Final = ("key", "value", "other", "of", "from")
PATIENCE: Final = 60.0
"""Seconds that a reload may take: the table is made by a Python of its own."""


def show(loaded: Loaded) -> dict[str, Any]:
    """Every key: its value, its default, and the file that set it."""
    return {"files": list(loaded.sources.files), "keys": _keys(loaded)}


def diff(loaded: Loaded) -> dict[str, Any]:
    """The keys whose values differ from the defaults, and from what the daemon goes by; that is
    None where no daemon runs."""
    keys = _keys(loaded)
    running = _running(loaded.config)
    return {
        "files": list(loaded.sources.files),
        "defaults": [row for row in keys if row["value"] != row["default"]],
        "running": None if running is None else _against(keys, running),
    }


def diff_rows(found: dict[str, Any]) -> list[Row]:
    """What diff() found, for a table."""
    rows = [{**row, "other": row["default"], "of": "default"} for row in found["defaults"]]
    against = found["running"] or ()
    return rows + [{**row, "other": row["running"], "of": "running daemon"} for row in against]


def reload(config: Config) -> str:
    """Have the daemon take the configuration as it is on disk; what it did. ConfigError or
    SentryError with what stands against it, NotRunning without a daemon."""
    try:
        changed = ask(config.paths.control, {"do": "reload"}, PATIENCE)["changed"]
    except (NotRunning, NoPrivilege):
        raise
    except SentryError as error:
        refused = SentryError(f"{error}\nrefused: the daemon goes on with the configuration it has")
        refused.exit_code = error.exit_code
        raise refused from None
    if not changed:
        return "reloaded: nothing has changed"
    return f"reloaded: {', '.join(changed)}"


def metrics(config: Config) -> tuple[str, bool]:
    """The daemon's figures, and whether it runs."""
    try:
        return str(ask(config.paths.control, {"do": "metrics"}, PATIENCE)["text"]), True
    except NotRunning:
        return text_of_none(), False


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


def _against(keys: list[Row], running: dict[str, Any]) -> list[Row]:
    there = {".".join(path): value for path, value in flatten(running)}
    mine = {row["key"]: row for row in keys}
    gone = {"value": None, "from": "default"}
    return [
        {
            "key": key, "value": row["value"], "running": there.get(key), "from": row["from"],
        }
        for key in dict.fromkeys([*mine, *there])
        if (row := mine.get(key, gone))["value"] != there.get(key)
    ]  # fmt: skip


def _flat(config: Config) -> dict[KeyPath, Any]:
    return dict(flatten(config.model_dump(mode="json")))


def _running(config: Config) -> dict[str, Any] | None:
    try:
        answer = ask(config.paths.control, {"do": "config"})
    except NotRunning:
        return None
    found = answer["config"]
    return found if isinstance(found, dict) else None
