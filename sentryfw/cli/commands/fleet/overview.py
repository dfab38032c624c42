"""fleet status: what each member holds, how far behind it is, and whether the hub is reached."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config
from sentryfw.cli.commands.fleet.group import group
from sentryfw.config.fleet import FleetHub
from sentryfw.control.answers import harmless
from sentryfw.control.client import ask
from sentryfw.distribution import service_command
from sentryfw.errors import SentryError
from sentryfw.host.private_files import open_no_link
from sentryfw.record.events import timestamp
from sentryfw.setup.fleet.authority import ends_at
from sentryfw.text import plain

MAX_REPORT_BYTES: Final = 1 << 20
STALE_S: Final = 10.0
"""Seconds after which a report is that of a link that has ended: it is touched each second."""
WARN_S: Final = 30 * 86400
"""Seconds before the end of a certificate in which it is named."""
COLUMNS: Final = ("member", "trust", "blocks", "weighed", "shown", "last", "behind", "it_lacks",
                  "refused")  # fmt: skip
NO_FLEET: Final = "there is no fleet: set [fleet] name and members, and restart the daemon"

Json_ = dict[str, Any]


@group.command("status")
def status_command(context: typer.Context, json: Json = False) -> None:
    """Show each member, how far behind it is, what was refused, and whether the hub is reached."""
    config = load_config(context)
    fleet = ask(config.paths.control, {"do": "status"}).get("fleet")
    if not isinstance(fleet, dict) or not fleet:
        raise SentryError(NO_FLEET)
    link = link_of(config.paths.link_status, config.fleet.hub, time.time())
    found = combined(fleet, link)
    if json:
        output.print_json({**found, "link": promised(found["link"])})
        return
    rows = [{**member, "refused": _counts(member["refused"])} for member in found["members"]]
    output.print_rows(rows, COLUMNS, title(len(rows), found["name"]))
    for line in _lines(found, time.time()):
        typer.echo(line)


def title(number: int, name: str) -> str:
    """Return the line above the members; without a name of ours there is CrowdSec alone."""
    return f"{number} members of {name}'s fleet" if name else f"{number} members"


def link_of(path: Path, hub: FleetHub, now: float) -> Json_:
    """Return what the link reports, and how the access to the hub is; the link is not trusted."""
    if not hub.is_on:
        return {"configured": False}
    report = {"running": False, "faults": [], **_report(path, now), "configured": True}
    if hub.certificate is not None:
        try:
            report["certificate_ends"] = ends_at(hub.certificate.read_text(errors="replace"))
        except (OSError, SentryError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            report["certificate_fault"] = f"{hub.certificate}: {why}"
    return report


def _report(path: Path, now: float) -> Json_:
    try:
        with os.fdopen(open_no_link(path, os.O_RDONLY), "rb") as file:
            is_fresh = now - os.fstat(file.fileno()).st_mtime < STALE_S
            report = harmless(json.loads(file.read(MAX_REPORT_BYTES)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, SentryError):
        return {"faults": [f"{path} cannot be read"]}
    return {**report, "running": is_fresh} if isinstance(report, dict) else {}


def combined(fleet: Mapping[str, Any], link: Mapping[str, Any]) -> Json_:
    """Return what the daemon and the link say about each member, in one object."""
    own = str(fleet.get("name"))
    last, told = _numbers(link.get("last")), link.get("told")
    told = told if isinstance(told, dict) else {}
    faults = link.get("refused")
    unreadable = faults if isinstance(faults, dict) else {}
    members = []
    for name, member in fleet.get("members", {}).items():
        read = _numbers(told.get(name)).get(own)
        carried = {f"hub: {why}": count for why, count in _numbers(unreadable.get(name)).items()}
        members.append({
            "member": name, **member,
            "behind": max(0, last[name] - int(member["last"])) if name in last else None,
            "it_lacks": None if read is None or own not in last else max(0, last[own] - read),
            "refused": {**member.get("refused", {}), **carried},
        })  # fmt: skip
    return {"name": own, "members": members, "unreadable": fleet.get("unreadable", {}),
            "crowdsec": fleet.get("crowdsec"), "link": dict(link)}  # fmt: skip


def promised(link: Mapping[str, Any]) -> Json_:
    """Return the part of the link's report that `--json` shows: it may hold anything."""
    faults, sent, ends = link.get("faults"), link.get("sent"), link.get("certificate_ends")
    return {
        "configured": link["configured"],
        "running": link.get("running") is True,
        "reached": link.get("reached") is True,
        "hub": str(link.get("hub", "")),
        "faults": [*map(str, faults)] if isinstance(faults, list) else [],
        "sent": int(sent) if isinstance(sent, int) else 0,
        "certificate_ends": None if ends is None else timestamp(ends),
        "certificate_fault": str(link.get("certificate_fault", "")),
    }


def crowdsec_line(found: Mapping[str, Any]) -> str:
    """Return how CrowdSec's local API is reached, as one line."""
    name = plain(str(found["member"]))
    if found["fault"]:
        lasts = f"{found['fault_s']:.0f} s"
        return f"{name}: {plain(found['fault'])}, for {lasts}; its decisions here end at their time"
    if found["answered_s"] is None:
        return f"{name}: not asked yet"
    left_out = f"; {found['left_out']} decisions have no place" if found["left_out"] else ""
    return f"{name}: answered {found['answered_s']:.0f} s ago{left_out}"


def _lines(found: Mapping[str, Any], now: float) -> list[str]:
    link = found["link"]
    lines = []
    if found["unreadable"]:
        lines.append(f"refused, of no member: {_counts(found['unreadable'])}")
    if found["crowdsec"] is not None:
        lines.append(crowdsec_line(found["crowdsec"]))
        if not found["name"]:
            return lines
    if not link["configured"]:
        return [*lines, "hub: none; entries are carried by `sentryfw fleet send` and `receive`"]
    where = plain(str(link.get("hub", "")))
    if not link["running"]:
        lines.append(f"hub: the link does not run: {service_command('status', 'sentryfw-link')}")
    elif link.get("reached"):
        lines.append(f"hub: {where} is reached; {link.get('sent', 0)} entries sent")
    else:
        lines.append(f"hub: {where} is not reached; every firewall guards alone")
    if link["running"]:
        lines += [f"  {plain(str(fault))}" for fault in link.get("faults", [])]
    if "certificate_fault" in link:
        lines.append(link["certificate_fault"])
    elif link.get("certificate_ends", now + WARN_S) < now + WARN_S:
        left = (link["certificate_ends"] - now) / 86400
        word = f"ends in {left:.0f} days" if left > 0 else "has ended"
        lines.append(f"our certificate {word}: `sentryfw fleet init` on the hub makes a new one")
    return lines


def _numbers(given: object) -> dict[str, int]:
    if not isinstance(given, dict):
        return {}
    return {name: value for name, value in given.items() if isinstance(value, int)}


def _counts(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{plain(str(name))} {number}" for name, number in given.items())
