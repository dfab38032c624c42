"""export: the blocks in the formats of other programs, on standard output.

Firewall formats (plain, cidr, nft, csv, json, stix) contain every block. Formats for abuse desks
(xarf, abuseipdb, dshield) accuse a source: they contain scans that the engine found, of one address
each, and no decoy scans, whose source addresses are forged.
"""

import sys
from typing import Annotated, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import load_config, new_app, parse_timeout
from sentryfw.config.model import Config
from sentryfw.errors import UsageError
from sentryfw.netfilter.table import Table
from sentryfw.tools.export import abuse, firewall
from sentryfw.tools.export.blocks import AbuseReporter, Say, accused, items, with_origins

FIREWALL: Final = ("plain", "cidr", "nft", "csv", "json", "stix")
ABUSE: Final = ("xarf", "abuseipdb", "dshield")
FORMATS: Final = (*FIREWALL, *ABUSE)

app = new_app()


@app.command()
def export(
    context: typer.Context,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="plain, cidr, nft, csv, json, stix, xarf, abuseipdb or dshield."
        ),
    ] = "plain",
    json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='How far back, e.g. "1d"; default: present blocks only.'),
    ] = None,
    proven: Annotated[
        bool, typer.Option("--proven", help="Only blocks whose source cannot be forged.")
    ] = False,
    org: Annotated[str, typer.Option(help="xarf: the organisation that reports.")] = "",
    contact: Annotated[str, typer.Option(help="xarf: its mail address.")] = "",
    domain: Annotated[str, typer.Option(help="xarf: its domain.")] = "",
    author: Annotated[int, typer.Option(min=0, help="dshield: your user id.")] = 0,
) -> None:
    """Print the blocks for other firewalls and abuse desks. Nothing is sent."""
    seconds = None if since is None else parse_timeout(since, "--since")
    reporter = AbuseReporter(org=org, contact=contact, domain=domain, author=author)
    form = "json" if json else format_
    config = load_config(context)
    print_export(config, Table(), form, seconds, reporter, output.note, proven=proven)


def print_export(
    config: Config, table: Table, form: str, since: float | None, reporter: AbuseReporter, say: Say,
    *, proven: bool = False,
) -> None:  # fmt: skip
    """Print the blocks in a format; `since`: those of the last seconds, also ended ones. Raise
    UsageError if the format is unknown, or wants a reporter."""
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}: choose one of {', '.join(FORMATS)}")
    if form == "xarf" and not (reporter.org and reporter.contact and reporter.domain):
        raise UsageError("xarf names the reporter: give --org, --contact and --domain")
    found = items(config, table, since, say)
    if proven:
        found = (item for item in found if item.entry and not item.entry.forgeable)
    if form == "json":
        found = with_origins(config, found, say)
    if form in FIREWALL:
        lines = firewall.RENDER[form](found)
    else:
        lines = abuse.RENDER[form](accused(config, found, say), reporter, say)
    for line in lines:
        sys.stdout.write(line)
