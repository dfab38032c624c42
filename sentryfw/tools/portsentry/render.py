"""The text of a sentryfw.toml for an import: each key below a comment with its origin."""

import json
from typing import Final

from sentryfw.text import plain
from sentryfw.tools.portsentry.imported import ConfigLine, Imported, Remark, Value

MAX_WIDTH: Final = 96
"""Characters of a line."""
SECTIONS: Final = (
    "watch", "decoy", "detect", "block", "never_block", "respond.command", "respond.hosts_deny",
    "respond.route", "respond.dns", "respond.history",
)  # fmt: skip
MAX_SEEN: Final = 50
"""Hosts of the history that are named; the others are counted."""


def render(imported: Imported) -> str:
    """Return the file, with the options that have no key as comments at its end."""
    out = ["# SentryFW, imported from PortSentry:"]
    out += [f"#   {plain(source)}" for source in imported.sources]
    for section in SECTIONS:
        lines = [line for line in imported.lines if line.section == section]
        if lines:
            out += ["", f"[{section}]"]
            for line in lines:
                out += _key(line)
    out += _remarks("Not carried over", imported.unmapped)
    out += _remarks("Interpreted", imported.warnings)
    out += _seen(imported)
    return "\n".join(out) + "\n"


def _key(line: ConfigLine) -> list[str]:
    origins = (f"# {plain(origin)}" for origin in line.origin.split("\n"))
    return [*origins, f"{line.key} = {_value(line.value)}"]


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {number}" for key, number in value.items()) + " }"
    if not isinstance(value, list):
        return text(value) if isinstance(value, str) else str(value)
    items = [text(item) if isinstance(item, str) else str(item) for item in value]
    if sum(map(len, items)) + 2 * len(items) < MAX_WIDTH:
        return f"[{', '.join(items)}]"
    return "[\n" + "".join(f"    {row},\n" for row in _rows(items)) + "]"


def _rows(items: list[str]) -> list[str]:
    rows = [items[0]]
    for item in items[1:]:
        if len(rows[-1]) + len(item) > MAX_WIDTH - 6:
            rows.append(item)
        else:
            rows[-1] += f", {item}"
    return rows


def text(value: str) -> str:
    """Return a basic string of TOML (toml.io, 1.0.0): the escapes of JSON, and DEL escaped, too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def place(remark: Remark) -> str:
    """Return file:line, as far as they are known."""
    where = remark.file + (f":{remark.line}" if remark.line else "")
    return f"{where}: " if where else ""


def _remarks(title: str, remarks: list[Remark]) -> list[str]:
    if not remarks:
        return []
    return ["", f"# {title}:", *(f"#   {plain(place(r) + r.said)}" for r in remarks)]


def _seen(imported: Imported) -> list[str]:
    if not imported.seen:
        return []
    count = len(imported.seen)
    out = ["", f"# {count} hosts are in PortSentry's history or blocked files. It also wrote hosts"]
    out.append("# that it had not blocked, and its blocks never ended. To block one again:")
    out += [f"#   sentryfw block {seen.address}" for seen in imported.seen[:MAX_SEEN]]
    if count > MAX_SEEN:
        out.append(f"#   ... and {count - MAX_SEEN} more: sentryfw import-portsentry --json")
    return out
