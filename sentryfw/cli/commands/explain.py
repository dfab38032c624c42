"""explain: the probes, decisions and reactions of an address, in the order of time."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.answers import collect
from sentryfw.cli.arguments import Json, load_config, new_app
from sentryfw.cli.completion import blocked_addresses
from sentryfw.cli.origins import with_origins
from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, NotFound
from sentryfw.host.private_files import open_private
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import origin_text
from sentryfw.query.explain import LISTS, parts, past_blocks, subject, whole
from sentryfw.record import pcapng
from sentryfw.record.captures import captures
from sentryfw.text import counted, duration, local_clock, local_time, plain, zone

Row = dict[str, Any]

COLUMNS: Final = ("at", "what", "kind", "target", "forgeable", "why", "event")
SHORT_COLUMNS: Final = ("at", "what", "target", "why")

app = new_app()


@app.command()
def explain(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDR|CIDR", help="An address or a network.", autocompletion=blocked_addresses
        ),
    ],
    json: Json = False,
    pcap: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the packets behind its blocks there (pcapng)."),
    ] = None,
) -> None:
    """Explain why an address is or was blocked, or is not. Shows every probe and decision."""
    config = load_config(context)
    found = explain_address(config, address)
    output.print_json(found) if json else show(found)
    if pcap is not None:
        count = save_captures(config, address, pcap)
        output.note(f"{pcap}: the packets behind {counted(count, 'block')}")
    if not is_known(found):
        raise typer.Exit(NotFound.exit_code)


def explain_address(config: Config, text: str) -> Row:
    """Return everything that is known of an address or a network. Without CAP_NET_ADMIN the daemon
    answers."""
    subject(text)  # a wrong address is an error before any request
    try:
        found = whole(parts(config, Table(), text, output.note))
    except NoPrivilege:
        request = {"do": "explain", "address": text}
        found = whole(collect(config.paths.control, request, output.note))
    [known] = with_origins(config, [found], output.note)
    return known


def is_known(found: Row) -> bool:
    """Return whether anything is known of the address."""
    return bool(
        found["blocked"] or found["never_block"] or found["partner"] or found["suspect"]
        or any(found[name] for name in LISTS)
    )  # fmt: skip


def show(found: Row) -> None:
    """Print the state as pairs, then the events as rows."""
    if sys.stdout.isatty():
        sys.stdout.write("\n".join(map(output.wrapped, answer(found))) + "\n")
    else:
        head = {key: value for key, value in found.items() if key not in LISTS}
        head["members"] = [
            f"{m['member']}: {m['effect']}, {m['evidence']}" for m in found["members"]
        ]
        head["never_block"] = [f"{s['why']} ({s['network']})" for s in found["never_block"]]
        output.print_pairs(head, f"Why {found['address']}")
    rows = story(found)
    if rows:
        short = [
            {**row, "at": local_clock(row["at"]), "what": _short(row), "target": _place(row)}
            for row in rows
        ]
        title = f"What happened (times in {zone()})"
        output.print_rows(rows, COLUMNS, title, short=(short, SHORT_COLUMNS))


def answer(found: Row) -> list[str]:
    """Return the state of an address as sentences."""
    source = "" if found["source"] == found["address"] else f" (its source is {found['source']})"
    lines = [f"{found['address']}{source} is {plain(found['because'])}."]
    if found["timeout_s"] is not None:
        what = "confined" if found["confined"] else "blocked"
        lasts = "until you unblock it"
        if found["expires_in_s"] is not None:
            end = local_time(time.time() + found["expires_in_s"])
            lasts = f"until {end}, {duration(found['expires_in_s'])} from now"
        dropped = counted(found["dropped_packets"] or 0, "packet")
        offence = f"; offence {found['offences']}" if found["offences"] else ""
        lines.append(f"It is {what} {lasts}{offence}. {dropped} of it dropped so far.")
    origin = origin_text(found["origin"])
    if origin:
        lines.append(f"Origin: {plain(origin)}.")
    if found["partner"]:
        lines.append("It is a partner: it finished a handshake with a service of ours today.")
    if found["suspect"]:
        lines.append("It is a suspect: what it sends is held until its last probe is judged.")
    if found["blocked"] or found["confined"]:
        source = found["source"]
        lines.append(f"To end that: sentryfw unblock {source}")
        lines.append(f"Never to block it: sentryfw allow add {source}")
    return lines


def _short(row: Row) -> str:
    """Return what happened with the kind of probe: a column less."""
    return f"{row['kind']} probe" if row["what"] == "probe" else str(row["what"])


def _place(row: Row) -> str:
    """Return the target of a probe, or the scan and the kinds of a decision."""
    if row["what"] == "probe" or not row["kind"]:
        return str(row["target"] or "")
    return f"{row['target']}: {row['kind'].replace(',', ', ')}"


def story(found: Row) -> list[Row]:
    """Return the events, oldest first: each probe once, with the decision that it led to."""
    rows = [_probe(probe, "below the trigger", "") for probe in found["probes"]]
    for block in found["blocks"]:
        rows += _block(block)
    rows += _refusals(found["refusals"])
    for reaction in found["reactions"]:
        result = "done" if reaction["ok"] else "failed"
        what = f"{reaction['reaction']} {result}"
        rows.append(_row(reaction["at"], what, why=reaction["detail"]))
    return sorted(rows, key=lambda row: str(row["at"]))  # stable: probes before their decision


def save_captures(config: Config, text: str, path: Path) -> int:
    """Write the packets behind the blocks of an address into a pcapng file, and return the number
    of blocks. Raise NotFound if no packets are kept."""
    directory = config.paths.evidence
    entries = past_blocks(config, text)
    found = captures(directory, entries)
    if not found:
        raise NotFound(
            f"no packets of {text} are kept: {len(entries)} blocks in the ledger, none with a"
            f" capture in {directory}"
        )
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(pcapng.join(found))
    return len(found)


def _block(block: Row) -> list[Row]:
    rows = [_probe(seen, "led to the block", block["id"]) for seen in block["evidence"]]
    lasts = f"for {duration(block['timeout_s'])}" if block["timeout_s"] else "forever"
    rows.append(_decision(block, f"blocked {lasts}", _why(block)))
    if block["ended_at"]:
        rows.append(_row(block["ended_at"], block["state"], event=block["id"]))
    return rows


def _refusals(refusals: list[Row]) -> list[Row]:
    """Return the refusals as rows; a probe that several refusals contain appears once."""
    rows: list[Row] = []
    known = set()
    for refusal in refusals:
        for seen in refusal["evidence"]:
            probe = (seen["kind"], seen["target"], seen["at"][:19])
            if probe not in known:
                known.add(probe)
                rows.append(_probe(seen, "led to no block", refusal["id"]))
        what = "confined" if refusal["timeout_s"] else "not blocked"
        rows.append(_decision(refusal, what, refusal["rule"]))
    return rows


def _why(block: Row) -> str:
    offence = f", offence {block['offence']}" if block["offence"] else ""
    forgeable = "; the source could be forged" if block["offence"] and block["forgeable"] else ""
    return f"{block['reason']}{offence}{forgeable}"


def _decision(entry: Row, what: str, why: str) -> Row:
    kinds = ",".join(entry["kinds"])
    row = _row(entry["at"], what, kind=kinds, target=entry["scan"], why=why, event=entry["id"])
    return {**row, "forgeable": entry["forgeable"] if kinds else None}


def _probe(seen: Row, why: str, event: str) -> Row:
    listed = ", to a listed port: counts half" if seen["listed"] else ""
    row = _row(seen["at"], "probe", kind=seen["kind"], target=seen["target"], event=event)
    return {**row, "forgeable": seen["forgeable"], "why": f"{why}{listed}"}


def _row(at: str, what: str, **more: str) -> Row:
    return {**dict.fromkeys(COLUMNS), "at": at, "what": what, **more}
