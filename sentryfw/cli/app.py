"""sentryfw(8): every command parses, calls one function, prints, and exits."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from sentryfw import __version__, config
from sentryfw.cli import output
from sentryfw.config import Config
from sentryfw.errors import ConfigError, NotFound, NotRunning, SentryError, UsageError

app = typer.Typer(
    name="sentryfw",
    help="Port-scan detection and blocking inside nftables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

YOUNG: Final = 100_000
"""Objects between two collections: `list` makes a million, and not one in a cycle."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

allow = typer.Typer(
    help="Keep the allowlist: who is never blocked. Kernel and daemon follow at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(allow, name="allow")


class Options:
    """What the global options say."""

    path: Path | None = None

    def load(self) -> Config:
        return config.load(self.path)


options = Options()


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"sentryfw {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    config_file: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", envvar="SENTRYFW_CONFIG", metavar="FILE",
            help=f"Configuration; default {config.DEFAULT_PATH}, and no file there: the defaults.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:  # fmt: skip
    options.path = config_file


@app.command()
def install(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be loaded; change nothing.")
    ] = False,
    no_service: Annotated[bool, typer.Option("--no-service", help="Leave systemd alone.")] = False,
    trial: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Uninstall after e.g. "5m", unless confirmed.'),
    ] = None,
) -> None:
    """Make the table, or bring it up to date; live blocks are kept."""
    from sentryfw.cli import setup
    from sentryfw.netfilter.table import Table

    settings = options.load()
    if dry_run:
        sys.stdout.write(setup.dry_run(settings, Table()))
    elif trial is not None:
        from sentryfw.cli import trial as module
        from sentryfw.cli.blocks import parse_timeout

        seconds = parse_timeout(trial, "--trial")
        module.begin(settings, options.path, seconds, typer.echo, with_service=not no_service)
    else:
        setup.run_install(settings, Table(), options.path, typer.echo, service=not no_service)


@app.command()
def confirm() -> None:
    """Keep an install that is on trial."""
    from sentryfw.cli import trial

    trial.confirm(options.load())
    typer.echo("confirmed: the install stays")


@app.command()
def panic() -> None:
    """Take every effect away at once, even with a broken configuration or ledger."""
    from sentryfw.cli import panic as module

    module.panic(options.path, typer.echo)


@app.command()
def uninstall(
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete state, events and configuration too.")
    ] = False,
) -> None:
    """Take everything of SentryFW out of the kernel."""
    from sentryfw import stops
    from sentryfw.cli import setup
    from sentryfw.netfilter.table import Table

    settings = options.load()
    setup.run_uninstall(settings, Table(), options.path, typer.echo, purge=purge)
    stops.end_trial(settings.paths.state)


@app.command()
def run() -> None:
    """Run the daemon in the foreground (the same as sentryfwd)."""
    arguments = [sys.executable, "-m", "sentryfw.daemon"]
    if options.path is not None:
        arguments += ["--config", str(options.path)]
    os.execv(sys.executable, arguments)  # noqa: S606 - ourselves, without the CLI's memory


@app.command()
def status(json: Json = False) -> None:
    """Show what is installed, what runs and what was counted."""
    from sentryfw.cli import status as module
    from sentryfw.netfilter.table import Table

    state = module.status(options.load(), Table())
    output.print_json(state) if json else output.print_pairs(state, "SentryFW")
    raise typer.Exit(module.exit_code(state))


@app.command("list")
def list_(
    json: Json = False,
    would_block: Annotated[
        bool, typer.Option("--would-block", help='What mode = "observe" would have blocked.')
    ] = False,
) -> None:
    """List what is blocked, why, and for how long."""
    from sentryfw.cli import blocks
    from sentryfw.cli import would_block as module
    from sentryfw.netfilter.table import Table

    settings = options.load()
    if would_block:
        items = module.would_block(settings)
    else:
        items = blocks.list_blocks(settings, Table(), output.note)
    if json:
        output.print_json(items)
    else:
        said = "would be blocked" if would_block else "blocked"
        short = (
            {
                **item,
                "left": output.duration(item["expires_in_s"]),
                "dropped": item["dropped_packets"],
            }
            for item in items
        )
        output.print_rows(
            items, blocks.COLUMNS, f"{len(items)} {said}", short=(short, blocks.SHORT_COLUMNS)
        )


@app.command()
def block(
    address: Annotated[str, typer.Argument(metavar="ADDR|CIDR")],
    timeout: Annotated[
        str | None, typer.Option(help='How long, e.g. "90s", "4h", "1d"; default: the first one.')
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though it covers who is never blocked: the rest of it.")
    ] = False,
) -> None:
    """Block an address or a network by hand."""
    from sentryfw.cli import blocks
    from sentryfw.netfilter.table import Table

    blocked, spared = blocks.block(options.load(), Table(), address, timeout, force=force)
    typer.echo(f"blocked {blocked}{blocks.covering_note(address, blocked)}")
    for protected in spared:
        output.note(
            f"{protected.network} is spared all the same: {protected.why}; nft lets it past the"
            " block as long as it is never blocked ([never_block] in the configuration)"
        )


@app.command()
def unblock(
    address: Annotated[str | None, typer.Argument(metavar="ADDR|CIDR")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Unblock everything.")] = False,
) -> None:
    """Unblock an address, a network, or everything."""
    from sentryfw.cli import blocks
    from sentryfw.netfilter.table import Table

    if all_ == (address is not None):
        raise UsageError("name an address or a network, or give --all")
    if address is None:
        typer.echo(f"unblocked {blocks.unblock_all(options.load(), Table())}")
    else:
        typer.echo(f"unblocked {blocks.unblock(options.load(), Table(), address)}")


@app.command()
def explain(
    address: Annotated[str, typer.Argument(metavar="ADDR|CIDR")],
    json: Json = False,
    pcap: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the packets behind its blocks there (pcapng)."),
    ] = None,
) -> None:
    """Say why an address is, was, or was not blocked, with every probe."""
    from sentryfw.cli import explain as module

    settings = options.load()
    found = module.explain(settings, address)
    output.print_json(found) if json else module.show(found)
    if pcap is not None:
        count = module.save_captures(settings, address, pcap)
        output.note(f"{pcap}: the packets behind {output.counted(count, 'block')}")
    if not module.is_known(found):
        raise typer.Exit(NotFound.exit_code)


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
    json: Json = False,
) -> None:
    """Show probes, sources near their trigger and fresh blocks, live; keys unblock and allow."""
    from sentryfw.cli import watch as module

    settings = options.load()
    if once:
        raise typer.Exit(module.once(settings, json=json))
    if json:
        module.json_lines(settings)
    else:
        raise typer.Exit(module.live(settings))


@app.command()
def report(
    since: Annotated[str, typer.Option(metavar="TIME", help='How far back, e.g. "1d".')] = "7d",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page there.")
    ] = None,
    json: Json = False,
) -> None:
    """Report who scanned, what, when and with which tools, and how much was dropped."""
    from sentryfw.cli import report as module
    from sentryfw.cli.blocks import parse_timeout
    from sentryfw.netfilter.table import Table

    made = module.make(options.load(), Table(), parse_timeout(since, "--since"))
    if html is not None:
        module.write_html(made, html)
        output.note(
            f"{html}: {output.counted(made['blocks'], 'block')} of"
            f" {output.counted(made['sources'], 'source')}"
        )
    if json:
        output.print_json(made)
    elif html is None:
        module.show(made)


@app.command()
def export(
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="plain, cidr, nft, csv, json, stix, xarf, abuseipdb or dshield."
        ),
    ] = "plain",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Every block since, e.g. "1d"; default: blocked now.'),
    ] = None,
    proven: Annotated[
        bool, typer.Option("--proven", help="Only what nobody can have forged.")
    ] = False,
    org: Annotated[str, typer.Option(help="xarf: the organisation that reports.")] = "",
    contact: Annotated[str, typer.Option(help="xarf: its mail address.")] = "",
    domain: Annotated[str, typer.Option(help="xarf: its domain.")] = "",
    author: Annotated[int, typer.Option(min=0, help="dshield: your user id.")] = 0,
) -> None:
    """Print what is blocked for other firewalls and abuse desks; nothing is sent anywhere."""
    from sentryfw.cli import export as module
    from sentryfw.cli.blocks import parse_timeout
    from sentryfw.netfilter.table import Table

    seconds = None if since is None else parse_timeout(since, "--since")
    reporter = module.Reporter(org, contact, domain, author)
    form = "json" if json else format_
    module.export(options.load(), Table(), form, seconds, reporter, output.note, proven=proven)


@app.command()
def check(json: Json = False) -> None:
    """Check the configuration; every fault at once."""
    where = str(options.path or config.DEFAULT_PATH)
    faults: list[str] = []
    try:
        options.load()
    except ConfigError as error:
        if not json:
            raise
        faults = [
            fault if file == error.where else f"{file}: {fault}"
            for file, fault in zip(error.files, error.faults, strict=True)
        ]
    if json:
        output.print_json({"config": where, "ok": not faults, "faults": faults})
    else:
        typer.echo(f"{where}: ok" if Path(where).exists() else f"{where}: not there, the defaults")
    if faults:
        raise typer.Exit(ConfigError.exit_code)


configuration = typer.Typer(
    help="Show the configuration, and what differs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(configuration, name="config")


@configuration.command("show")
def config_show(json: Json = False) -> None:
    """Show every key with its value, and where that came from."""
    from sentryfw.cli import effective

    shown = effective.show(config.load_with_sources(options.path))
    if json:
        output.print_json(shown)
    else:
        output.print_rows(shown["keys"], effective.SHOWN, f"{len(shown['files'])} files")


@configuration.command("diff")
def config_diff(json: Json = False) -> None:
    """Show what differs from the defaults, and from what the running daemon goes by."""
    from sentryfw.cli import effective

    found = effective.diff(config.load_with_sources(options.path))
    if json:
        output.print_json(found)
        return
    if found["running"] is None:
        output.note("the daemon is not running: compared with the defaults only")
    rows = effective.diff_rows(found)
    output.print_rows(rows, effective.DIFFERENT, f"{len(rows)} differences")


@app.command()
def metrics() -> None:
    """Print the daemon's figures as Prometheus reads them."""
    from sentryfw.cli import effective

    found, is_running = effective.metrics(options.load())
    sys.stdout.write(found)
    if not is_running:
        raise typer.Exit(NotRunning.exit_code)


@app.command()
def reload() -> None:
    """Make the running daemon take the configuration as it is now; refused if it has a fault."""
    from sentryfw.cli import effective

    typer.echo(effective.reload(options.load()))


@app.command()
def doctor(json: Json = False) -> None:
    """Look at everything SentryFW needs, and say what is missing and how to get it."""
    from sentryfw.cli import doctor as module

    findings = module.doctor(options.load())
    rows = [item._asdict() for item in findings]
    if json:
        output.print_json(rows)
    else:
        output.print_rows(rows, module.Finding._fields, "SentryFW doctor")
    raise typer.Exit(module.health(findings))


@app.command("support-dump")
def support_dump(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A new file; -: standard output; default: named after the time.",
            show_default=False,
        ),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Names in place of addresses and host names.")
    ] = False,
) -> None:
    """Gather what somebody who helps needs to see: no secrets, on request no addresses."""
    from sentryfw.cli import support as module

    text = module.dump(options.path, hide=redact)
    if file is not None and str(file) == "-":
        sys.stdout.write(text)
        return
    path = file or module.default_name()
    module.write(text, path)
    output.note(f"{path}: {len(text)} characters; look through it before you send it")


@app.command()
def drill(
    json: Json = False,
    forge: Annotated[
        bool, typer.Option("--forge", help="Forge the scans with scapy even where nmap is.")
    ] = False,
) -> None:
    """Attack a daemon with your configuration in two private namespaces, and see it hold."""
    from sentryfw.cli import drill as module

    raise typer.Exit(module.run(options.path, options.load(), json=json, forge=forge))


@app.command()
def replay(
    capture: Annotated[Path, typer.Argument(metavar="FILE.pcap|pcapng", show_default=False)],
    listed: Annotated[
        list[str] | None,
        typer.Option(metavar="PORTS", help="Listed ports, tcp/22,udp/53; default: a guess."),
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="The scanned side; may repeat; default: a guess."),
    ] = None,
    json: Json = False,
) -> None:
    """Judge a capture as the daemon would have, on the capture's own clock."""
    from sentryfw.cli import replay as module

    raise typer.Exit(module.run(capture, options.load(), local, listed, json=json))


@allow.command("add")
def allow_add(
    address: Annotated[str, typer.Argument(metavar="ADDR|CIDR")],
    comment: Annotated[str, typer.Option(help="Why; kept in the list.")] = "",
) -> None:
    """Never block an address or a network; if it is blocked, unblock it."""
    from sentryfw.cli import allow as module
    from sentryfw.netfilter.table import Table

    module.add(options.load(), Table(), address, comment, typer.echo)


@allow.command("del")
def allow_del(address: Annotated[str, typer.Argument(metavar="ADDR|CIDR")]) -> None:
    """Take an address or a network off the list."""
    from sentryfw.cli import allow as module
    from sentryfw.netfilter.table import Table

    module.delete(options.load(), Table(), address, typer.echo)


@allow.command("list")
def allow_list(
    json: Json = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Also who is never blocked for another reason.")
    ] = False,
) -> None:
    """List who is on the allowlist."""
    from sentryfw.cli import allow as module

    rows = module.listing(options.load(), everything=all_)
    if json:
        output.print_json(rows)
    else:
        output.print_rows(rows, module.COLUMNS, f"{len(rows)} never blocked")


@allow.command("import")
def allow_import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One a line; -: standard input.")],
) -> None:
    """Add every address and network in a file."""
    from sentryfw.cli import allow as module
    from sentryfw.netfilter.table import Table

    done = module.import_file(options.load(), Table(), file, output.note)
    typer.echo(f"allowed {done.added} more; {done.known} were on the list already")


@app.command("import-portsentry")
def import_portsentry(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR|FILE", help="Default: /etc/portsentry.", show_default=False),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Make the configuration file; never overwrites.")
    ] = False,
    tcp_mode: Annotated[
        str | None, typer.Option(help="tcp, stcp, atcp or off, where no file says it.")
    ] = None,
    udp_mode: Annotated[
        str | None, typer.Option(help="udp, sudp, audp or off, where no file says it.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a configuration out of PortSentry's, every key with where it came from."""
    from sentryfw.cli import portsentry

    imported = portsentry.read(directory, tcp_mode, udp_mode)
    written = portsentry.toml(imported)
    if write:
        path = options.path or config.DEFAULT_PATH
        portsentry.write(written, path)
        output.note(f"wrote {path}; next: sentryfw check, sentryfw install")
        portsentry.say_remarks(imported, output.note)
    if json:
        output.print_json(portsentry.as_json(imported, written))
    elif not write:
        sys.stdout.write(written)


def main() -> None:
    """Entry point sentryfw."""
    gc.freeze()  # what is imported stays: no collection need look at it again, nor the last one
    gc.set_threshold(YOUNG)
    try:
        app(_config_first(sys.argv[1:]))
    except SentryError as error:
        output.note(f"sentryfw: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("sentryfw: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        output.note(f"sentryfw: {error}")
        sys.exit(1)


def _config_first(words: list[str]) -> list[str]:
    """`-c FILE` and `--config FILE` are taken behind the command too: people write them there."""
    for index, word in enumerate(words[1:], 1):
        if word in {"-c", "--config"} and index + 1 < len(words):
            return [*words[index : index + 2], *words[:index], *words[index + 2 :]]
        if word.startswith("--config="):
            return [word, *words[:index], *words[index + 1 :]]
    return words


if __name__ == "__main__":
    main()
