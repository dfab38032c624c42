"""An import as the text of a sentryfw.toml: each key under a comment that says where it is from."""

import json
from typing import Final

from sentryfw.portsentry.convert import Imported, Line, Remark, Value

WIDTH: Final = 96
SECTIONS: Final = (
    "watch", "decoy", "detect", "block", "never_block", "respond.command", "respond.hosts_deny",
    "respond.route", "respond.dns", "respond.history",
)  # fmt: skip
MAX_SEEN: Final = 50
"""Hosts of the history that are named one by one."""


def render(imported: Imported) -> str:
    """The whole file; what cannot be carried over stands at its end, as comments."""
    out = ["# SentryFW, imported from PortSentry:"]
    out += [f"#   {_comment(source)}" for source in imported.sources]
    for section in SECTIONS:
        lines = [line for line in imported.lines if line.section == section]
        if lines:
            out += ["", f"[{section}]"]
            for line in lines:
                out += _key(line)
    out += _remarks("Not carried over", imported.unmapped)
    out += _remarks("Read the way it was meant", imported.warnings)
    out += _seen(imported)
    return "\n".join(out) + "\n"


def _key(line: Line) -> list[str]:
    origins = (f"# {_comment(origin)}" for origin in line.origin.split("\n"))
    return [*origins, f"{line.key} = {_value(line.value)}"]


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {number}" for key, number in value.items()) + " }"
    if not isinstance(value, list):
        return text(value) if isinstance(value, str) else str(value)
    items = [text(item) if isinstance(item, str) else str(item) for item in value]
    if sum(map(len, items)) + 2 * len(items) < WIDTH:
        return f"[{', '.join(items)}]"
    return "[\n" + "".join(f"    {row},\n" for row in _rows(items)) + "]"


def _rows(items: list[str]) -> list[str]:
    rows = [items[0]]
    for item in items[1:]:
        if len(rows[-1]) + len(item) > WIDTH - 6:
            rows.append(item)
        else:
            rows[-1] += f", {item}"
    return rows


def text(value: str) -> str:
    """A basic string of TOML (toml.io, 1.0.0): JSON's escapes, and DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def place(remark: Remark) -> str:
    """file:line, as far as they are known."""
    where = remark.file + (f":{remark.line}" if remark.line else "")
    return f"{where}: " if where else ""


def _remarks(title: str, remarks: list[Remark]) -> list[str]:
    if not remarks:
        return []
    return ["", f"# {title}:", *(f"#   {_comment(place(r) + r.said)}" for r in remarks)]


def _seen(imported: Imported) -> list[str]:
    if not imported.seen:
        return []
    count = len(imported.seen)
    out = ["", f"# {count} hosts stand in PortSentry's history or blocked files. It wrote hosts"]
    out.append("# there that it had not blocked, and its blocks never ended. To block one again:")
    out += [f"#   sentryfw block {seen.address}" for seen in imported.seen[:MAX_SEEN]]
    if count > MAX_SEEN:
        out.append(f"#   ... and {count - MAX_SEEN} more: sentryfw import-portsentry --json")
    return out


def _comment(said: str) -> str:
    """No control characters, which end a comment or are no TOML."""
    return "".join(char if char.isprintable() else "?" for char in said)
