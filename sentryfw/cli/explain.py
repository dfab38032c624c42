"""explain: why an address is, was, or was not blocked, as a story in the order of time."""

import os
from pathlib import Path
from typing import Any, Final

from sentryfw import explain as explaining
from sentryfw.account import acting_as_owner
from sentryfw.cli import output, remote
from sentryfw.config import Config
from sentryfw.errors import NoPrivilege, NotFound
from sentryfw.netfilter.table import Table
from sentryfw.record import pcapng
from sentryfw.record.evidence import captures
from sentryfw.record.files import open_private

Row = dict[str, Any]

COLUMNS: Final = ("at", "what", "kind", "target", "forgeable", "why", "event")
SHORT_COLUMNS: Final = ("at", "what", "kind", "target", "why")


def explain(config: Config, text: str) -> Row:
    """All there is to say. Without CAP_NET_ADMIN the daemon looks."""
    explaining.subject(text)  # a wrong address is wrong without asking anybody
    try:
        return explaining.whole(explaining.parts(config, Table(), text, output.note))
    except NoPrivilege:
        found = remote.ask_stream(config, {"do": "explain", "address": text})
        answers = []
        for answer in found:
            if "warning" in answer:
                output.note(answer["warning"])
            else:
                answers.append(answer)
        return explaining.whole(answers)


def is_known(found: Row) -> bool:
    """Whether there is anything to tell."""
    return bool(
        found["blocked"] or found["never_block"] or found["partner"] or found["suspect"]
        or any(found[name] for name in explaining.LISTS)
    )  # fmt: skip


def show(found: Row) -> None:
    """The head as pairs, then the story as rows."""
    head = {key: value for key, value in found.items() if key not in explaining.LISTS}
    head["never_block"] = [f"{s['why']} ({s['network']})" for s in found["never_block"]]
    output.print_pairs(head, f"Why {found['address']}")
    rows = story(found)
    if rows:
        short = [{**row, "at": row["at"][:19].replace("T", " ")} for row in rows]
        output.print_rows(rows, COLUMNS, "What happened", short=(short, SHORT_COLUMNS))


def story(found: Row) -> list[Row]:
    """What happened, oldest first; each probe once, with the decision that it led to."""
    rows = [_probe(probe, "below the trigger", "") for probe in found["probes"]]
    for block in found["blocks"]:
        rows += [_probe(seen, "led to the block", block["id"]) for seen in block["evidence"]]
        lasts = output.duration(block["timeout_s"]) if block["timeout_s"] else "good"
        rows.append(_decision(block, f"blocked for {lasts}", _why(block)))
        if block["ended_at"]:
            rows.append(_row(block["ended_at"], block["state"], event=block["id"]))
    told = set()
    for refusal in found["refusals"]:  # said again once a minute, with the same probes
        for seen in refusal["evidence"]:
            probe = (seen["kind"], seen["target"], seen["at"][:19])
            if probe not in told:
                told.add(probe)
                rows.append(_probe(seen, "led to no block", refusal["id"]))
        rows.append(_decision(refusal, "not blocked", refusal["rule"]))
    for reaction in found["reactions"]:
        result = "done" if reaction["ok"] else "failed"
        what = f"{reaction['reaction']} {result}"
        rows.append(_row(reaction["at"], what, why=reaction["detail"]))
    return sorted(rows, key=lambda row: str(row["at"]))  # stable: probes before their decision


def save_captures(config: Config, text: str, path: Path) -> int:
    """The packets behind the blocks of an address, into one file; of how many blocks."""
    directory = config.paths.evidence
    entries = explaining.past_blocks(config, text)
    with acting_as_owner(directory):
        found = captures(directory, entries)
    if not found:
        raise NotFound(
            f"no packets are kept of {text}: {len(entries)} blocks in the ledger, and none has a"
            f" capture in {directory}"
        )
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(pcapng.join(found))
    return len(found)


def _why(block: Row) -> str:
    offence = f", offence {block['offence']}" if block["offence"] else ""
    forgeable = "; anybody could have forged it" if block["offence"] and block["forgeable"] else ""
    return f"{block['reason']}{offence}{forgeable}"


def _decision(entry: Row, what: str, why: str) -> Row:
    kinds = ",".join(entry["kinds"])
    row = _row(entry["at"], what, kind=kinds, target=entry["scan"], why=why, event=entry["id"])
    return {**row, "forgeable": entry["forgeable"] if kinds else None}


def _probe(seen: Row, why: str, event: str) -> Row:
    listed = ", to a listed port: it weighs half" if seen["listed"] else ""
    row = _row(seen["at"], "probe", kind=seen["kind"], target=seen["target"], event=event)
    return {**row, "forgeable": seen["forgeable"], "why": f"{why}{listed}"}


def _row(at: str, what: str, **more: str) -> Row:
    return {**dict.fromkeys(COLUMNS), "at": at, "what": what, **more}
