"""PortSentry's KILL_*, RESOLVE_HOST and file options -> [respond]. Pure."""

from pathlib import PurePosixPath

from sentryfw.config.model import Paths
from sentryfw.tools.portsentry.commands import purpose
from sentryfw.tools.portsentry.imported import Draft
from sentryfw.tools.portsentry.parse import Setting


def add_reactions(draft: Draft) -> None:
    """Add the sections of [respond]."""
    _add_route(draft)
    _add_hosts_deny(draft)
    _add_command(draft)
    setting, number = draft.number("RESOLVE_HOST", 0)
    if setting is not None:
        draft.add("respond.dns", "enabled", number == 1, draft.origin("RESOLVE_HOST", setting))
    _add_history(draft)
    setting = draft.options.get("BLOCKED_FILE")
    if setting is not None:
        draft.leave_out(setting, "BLOCKED_FILE: the kernel's sets are the list: sentryfw list")


def runnable_command(draft: Draft) -> tuple[str, Setting] | None:
    """Return the option whose command [respond.command] can run: KILL_RUN_CMD, else a KILL_ROUTE
    that is neither a route nor a firewall; None if there is none."""
    run = draft.options.get("KILL_RUN_CMD")
    if run is not None and run.value.strip():
        return ("KILL_RUN_CMD", run) if _is_plain(run.value) else None
    route = draft.options.get("KILL_ROUTE")
    if route is None or not route.value.strip():
        return None
    if purpose(route.value).kind == "command":
        return "KILL_ROUTE", route
    return None


def _add_route(draft: Draft) -> None:
    setting = draft.options.get("KILL_ROUTE")
    if setting is None or not setting.value:
        return
    what = purpose(setting.value)
    if what.kind == "route":
        draft.add("respond.route", "enabled", True, draft.origin("KILL_ROUTE", setting))
        if "333.444.555.666" in setting.value:
            text = "KILL_ROUTE: 333.444.555.666 is not a gateway; a blackhole needs none"
            draft.warn(setting, text)
    elif what.kind == "firewall":
        draft.leave_out(setting, f"KILL_ROUTE: {what.why}: [block] does it, for a time")
    elif what.kind == "shell":
        draft.leave_out(setting, f"KILL_ROUTE: {what.why}")
    elif "KILL_RUN_CMD" in draft.options:
        draft.leave_out(
            setting,
            "KILL_ROUTE: KILL_RUN_CMD is set, and one command can be run: let a script call both",
        )


def _add_hosts_deny(draft: Draft) -> None:
    setting = draft.options.get("KILL_HOSTS_DENY")
    if setting is None or not setting.value:
        return
    line = setting.value
    if line.count("$TARGET$") != 1 or line.startswith("#") or line.endswith("\\"):
        draft.leave_out(setting, "KILL_HOSTS_DENY: not one line that contains $TARGET$ once")
        return
    origin = draft.origin("KILL_HOSTS_DENY", setting)
    draft.add("respond.hosts_deny", "enabled", True, origin)
    draft.add("respond.hosts_deny", "line", line.replace("$TARGET$", "{address}"), origin)


def _add_command(draft: Draft) -> None:
    runnable = runnable_command(draft)
    if runnable is None:
        setting = draft.options.get("KILL_RUN_CMD")
        if setting is not None and setting.value:
            why = purpose(setting.value).why or "only a shell could run it"
            draft.leave_out(setting, f"KILL_RUN_CMD: {why}")
        return
    name, setting = runnable
    draft.add("respond.command", "argv", setting.value, draft.origin(name, setting))
    first, number = draft.number("KILL_RUN_CMD_FIRST", 0)
    if name == "KILL_RUN_CMD":
        when = "before" if number == 1 else "after"
        draft.add("respond.command", "when", when, draft.origin("KILL_RUN_CMD_FIRST", first))


def _add_history(draft: Draft) -> None:
    setting = draft.options.get("HISTORY_FILE")
    if setting is None or not setting.value.startswith("/"):
        return
    generation = draft.sources.parsed.generation
    origin = draft.origin("HISTORY_FILE", setting)
    draft.add("respond.history", "format", f"portsentry{generation}", origin)
    log = Paths().log
    if not PurePosixPath(setting.value).is_relative_to(log):
        origin += f"\nthe service can write below {log} only: see docs/portsentry.md"
    draft.add("respond.history", "path", setting.value, origin)
    if setting.value.startswith(("/tmp/", "/var/tmp/", "/dev/shm/")):  # noqa: S108
        text = "HISTORY_FILE: every user can write to its directory: choose another one"
        draft.warn(setting, text)


def _is_plain(text: str) -> bool:
    """Return whether [respond.command] can run a command, of any purpose."""
    return purpose(text).kind != "shell" and text.lstrip().startswith("/")
