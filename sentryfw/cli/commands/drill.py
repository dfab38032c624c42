"""drill: attacks on a daemon in private namespaces, and their results."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_faultless, new_app
from sentryfw.config import Loaded
from sentryfw.host.privileges import require_root
from sentryfw.netfilter.libnftables import Libnftables
from sentryfw.netfilter.packet_queue import require_library
from sentryfw.text import counted
from sentryfw.tools.drill import AttackResult, Progress, Step, attacks, plan, supervise
from sentryfw.tools.drill import run as run_drill
from sentryfw.tools.drill.supervisor import Say

COLUMNS: Final = AttackResult._fields
HEAD: Final = " #  scan     nmap  over  blocked after    within       later answers\n"
NOT_BLOCKED: Final = (
    "its source was not blocked: is it in [never_block], or is a trigger of [detect] too high?"
)

app = new_app()


@app.command()
def drill(
    context: typer.Context,
    json: Json = False,
    forge: Annotated[
        bool, typer.Option("--forge", help="Forge the scans, even if nmap is installed.")
    ] = False,
) -> None:
    """Attack a daemon with your configuration, in namespaces. Each attack has to end in a block."""
    raise typer.Exit(run(load_faultless(context), json=json, forge=forge))


def run(loaded: Loaded, *, json: bool, forge: bool) -> int:
    """Run the drill, and return its exit code: 0 if all attacks were blocked, else 1. Raise
    Unsupported, before it begins, if a library is missing that its daemon loads."""
    require_root()
    require_library()
    Libnftables()
    is_shown = sys.stdout.isatty() and not json
    say: Say = _type if is_shown else output.note
    say(_opening(loaded, forge=forge) + "\n" * is_shown)
    if is_shown:
        say(HEAD)

    def job(directory: Path, tell: Say) -> list[dict[str, object]]:
        shown = _rows(tell) if is_shown else _steps(tell)
        results = run_drill(loaded.config, shown, forge=forge, directory=directory)
        return [result._asdict() for result in results]

    rows = supervise(job, say)
    ok = all(row["ok"] for row in rows)
    if json:
        output.print_json({"ok": ok, "attacks": rows})
    elif not is_shown:
        output.print_rows(rows, COLUMNS, "SentryFW drill")
    output.note(summary(rows))
    return 0 if ok else 1


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the sentences at the end of a drill."""
    bad = [
        output.wrapped(f"  {_name(row)}: {'; '.join(faults(row))}", "    ")
        for row in rows
        if not row["ok"]
    ]
    if bad:
        head = f"{len(bad)} of {len(rows)} scans were not stopped as they have to be:"
        return "\n".join([head, *bad])
    probes = [row["probes"] for row in rows]
    fewest = "" if min(probes) == max(probes) else f"{min(probes)} to "
    counts = fewest + counted(max(probes), "probe")
    slowest = max(row["block_ms"] for row in rows)
    port = attacks.LISTED_PORT
    return output.wrapped(
        f"{len(rows)} scans, each stopped after {counts}; nothing answered afterwards. Each"
        f" source was blocked within {slowest:.1f} ms of its first probe. Blocked, it did not reach"
        f" the open port {port} either; `sentryfw unblock` ended that. The host could still"
        " connect to it."
    )


def faults(row: dict[str, Any]) -> list[str]:
    """Return what an attack did that it should not have done."""
    if row["block_ms"] is None:
        return [NOT_BLOCKED]
    kind = next(a.kind for a in attacks.ATTACKS if a.option == row["scan"])
    port = f"port {attacks.LISTED_PORT}"
    found = {
        f"it was recognised as {row['recognised']}": kind not in row["recognised"].split(","),
        f"{counted(row['targets'], 'target')} until the block, not {row['targets_due']}": (
            not row["targets_due"] <= row["targets"] <= row["targets_due"] + 1
        ),
        f"{counted(row['answers_after'], 'answer')} after the block": row["answers_after"],
        f"{port} answered the blocked source": not row["listed_port_closed"],
        "the host could not connect to the blocked source": not row["own_connection"],
        f"{port} did not answer after `sentryfw unblock`": not row["back_after_unblock"],
    }
    return [text for text, is_so in found.items() if is_so]


def _opening(loaded: Loaded, *, forge: bool) -> str:
    config, sources = loaded.config, loaded.sources
    files = ", ".join(sources.files) or f"the defaults (there is no {sources.where})"
    lifted = (
        ' It blocks, although your mode is "observe".' if config.detect.mode == "observe" else ""
    )
    return output.wrapped(
        f"Fire drill: {len(plan())} port scans by {attacks.tool(forge=forge)} against a private"
        " copy of SentryFW, in two network namespaces; your network is not touched. The one open"
        f" port there is {attacks.LISTED_PORT}. Configuration: {files}.{lifted}"
    )


def _steps(say: Say) -> Progress:
    """Return what prints a line as an attack begins."""
    return Progress(
        begins=lambda step: say(
            f"[{step.number:2}/{step.total}] {step.attack.option} over IPv{step.family}"
        ),
        ends=lambda _: None,
    )


def _rows(say: Say) -> Progress:
    """Return what prints a row of the table: its left half as an attack begins."""

    def begins(step: Step) -> None:
        name, option = step.attack.name, step.attack.option
        say(f"{step.number:2}  {name:<7}  {option:<4}  IPv{step.family}  ")

    def ends(result: AttackResult) -> None:
        if result.block_ms is None:
            say(f"NOT BLOCKED, {result.sent} probes\n")
            return
        count = f"{result.probes} of {result.sent} probes"
        answers = result.answers_after or "none"
        remark = "ok" if result.ok else "NOT OK"
        say(f"{count:<15}  {result.block_ms:5.1f} ms     {answers:<8}  {remark}\n")

    return Progress(begins, ends)


def _type(text: str) -> None:
    """Write text to the terminal at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _name(row: dict[str, Any]) -> str:
    name = next(a.name for a in attacks.ATTACKS if a.option == row["scan"])
    return f"{name} scan over {row['family'].replace('ip', 'IP')} ({row['scan']})"
