"""Options and arguments that several commands have, and the configuration that `-c` names."""

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Final

import typer

from sentryfw import config
from sentryfw.cli import output
from sentryfw.cli.phrases import FOREVER
from sentryfw.config import Loaded, plain, types
from sentryfw.config.model import Config
from sentryfw.config.types import IPAddress, IPNetwork, parse_duration, parse_network
from sentryfw.daemon.imports import plugin_search_without_metadata
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY, Whole6
from sentryfw.errors import ConfigError, SentryError, UsageError

BROADCAST: Final = IPv4Address("255.255.255.255")

_SYSTEM: Final = re.compile(r"AS\d{1,10}", re.ASCII | re.IGNORECASE)
_NO_SYSTEMS: Final = (
    "is an autonomous system, which is not blocked: no database knows its networks for sure; block"
    " networks, or `sentryfw import` a list of them"
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def new_app() -> typer.Typer:
    """Return the typer application of a module of commands."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def new_group(line: str) -> typer.Typer:
    """Return a group of commands with its help."""
    return typer.Typer(help=line, no_args_is_help=True, rich_markup_mode=None)


def config_path(context: typer.Context) -> Path | None:
    """Return the path that `-c` or the environment names; None: the default path."""
    path = context.obj
    return path if isinstance(path, Path) else None


def load_config(context: typer.Context) -> Config:
    """Load the configuration to work by: another one while the files have a fault, with a warning
    on standard error."""
    if plain.known is not None:
        return plain.known.config()
    with plugin_search_without_metadata():  # 10 ms of each command
        try:
            return config.load(config_path(context))
        except ConfigError:
            from sentryfw.query.working_config import (  # noqa: PLC0415 - few commands need it
                working_config,
            )

            return working_config(config_path(context), warn)


def faultless_config(context: typer.Context) -> Config:
    """Return the configuration of the files. Raise ConfigError with every fault."""
    return load_faultless(context).config


def load_faultless(context: typer.Context) -> Loaded:
    """Load the configuration of the files with the origin of each value; see
    faultless_config()."""
    return load_path(config_path(context))


def load_path(path: Path | None) -> Loaded:
    """Load the configuration of a file, None: the default one, as load_faultless() does."""
    with plugin_search_without_metadata():
        return config.load_with_sources(path)


def keep_last_good(context: typer.Context, loaded: Loaded) -> None:
    """Keep a copy of a configuration that is in use now; a failure is a warning."""
    from sentryfw.host import last_good  # noqa: PLC0415 - two commands need it

    try:
        last_good.save(config_path(context), loaded)
    except SentryError as error:
        warn(f"warning: {error}")


def parse_timeout(text: str, option: str) -> float:
    """Return a duration in seconds. Raise UsageError, which names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def parse_block_timeout(text: str) -> float:
    """Return the seconds of a block; 0 for "forever". Raise UsageError."""
    return 0.0 if text.strip().lower() == FOREVER else parse_timeout(text, "--timeout")


def parse_address(text: str, whole: Whole6 = LINK_LOCAL_ONLY) -> Source | IPNetwork:
    """Return a source, or a network that is larger than one. Raise UsageError if the text is
    neither, or if no host can have the address. `whole`: where addresses are sources."""
    try:
        network = parse_network(text)
    except ValueError:
        why = _NO_SYSTEMS if _SYSTEM.fullmatch(text) else "is neither an address nor a network"
        raise UsageError(f"{text[:60]!r} {why}") from None
    if network.prefixlen == 0 or not _is_unicast(network.network_address):
        raise UsageError(f"{text} cannot be the address of a host; nothing was changed")
    if network.prefixlen == (32 if network.version == 4 else 64):
        return parse_source(str(network).removesuffix("/32"))
    if "/" not in text:
        return parse_source(str(network.network_address), whole)
    return network


def each(
    texts: Sequence[str], one: Callable[[str], None], check: Callable[[str], object] = parse_address
) -> None:
    """Do one thing for each address or network; check all of them first. What fails is reported,
    the others are done, and the command ends with the exit code of the first failure."""
    for text in texts:
        check(text)
    code = 0
    for text in texts:
        try:
            one(text)
        except SentryError as error:
            if len(texts) == 1:
                raise
            warn(str(error))
            code = code or error.exit_code
        except typer.Exit as end:
            code = code or end.exit_code
    if code:
        raise typer.Exit(code)


def subject_text(what: Source | IPNetwork) -> str:
    """Return a source or a network as `list` prints it."""
    return source_text(what) if isinstance(what, bytes) else str(what)


def address_or_none(text: str) -> IPAddress | None:
    """Return an address; None if the text is not one."""
    try:
        return types.parse_address(text)
    except ValueError:
        return None


def warn(text: str) -> None:
    """Print a line for the operator on standard error."""
    output.note(f"sentryfw: {text}")


def _is_unicast(address: IPAddress) -> bool:
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address == BROADCAST
    )
