"""Load the configuration: TOML -> Config, with all faults at once, each with its key path.

Files in conf.d override the named file (files.py). A missing file means the defaults, but only at
the default path.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from sentryfw.config import files, plain
from sentryfw.config.files import Sources
from sentryfw.errors import ConfigError

if TYPE_CHECKING:
    from sentryfw.config.model import Config

DEFAULT_PATH: Final = Path("/etc/sentryfw/sentryfw.toml")


class Loaded(NamedTuple):
    """A configuration and its files."""

    config: "Config"
    sources: Sources


def load(path: Path | None) -> "Config":
    """Load the configuration of a file and of conf.d beside it; None: the default path.

    Raise ConfigError with all faults.
    """
    return load_with_sources(path).config


def load_with_sources(path: Path | None) -> Loaded:
    """Load the configuration with the origin of each value. Raise ConfigError with all faults."""
    sources = files.read(path or DEFAULT_PATH, optional=path is None)
    return validated(sources)


def parse(data: bytes, where: str) -> "Config":
    """Return the configuration in TOML bytes. Raise ConfigError with all faults."""
    return validated(files.only(data, where)).config


def validated(sources: Sources) -> Loaded:
    """Return the configuration of files that were read. Raise ConfigError with all faults."""
    return Loaded(_validated(sources), sources)


def _validated(sources: Sources) -> "Config":
    # Not at import: an entry point chooses the form of the sections before (config/plain).
    if plain.is_used:
        from sentryfw.config.plain import process  # noqa: PLC0415

        return process.validated(sources)
    from pydantic import ValidationError  # noqa: PLC0415

    from sentryfw.config import faults as fault_texts  # noqa: PLC0415
    from sentryfw.config.model import Config  # noqa: PLC0415

    Config.build()
    try:
        config = Config.model_validate(sources.table)
    except ValidationError as error:
        faults = [fault_texts.text_of(item) for item in error.errors()]
        places = [sources.origin(item["loc"]) or sources.where for item in error.errors()]
        raise ConfigError(sources.where, faults, places) from None
    for family in ("tcp", "udp"):
        if getattr(config.block, family) == "command" and not config.respond.command.argv:
            file = sources.origin(("block", family)) or sources.where
            raise ConfigError(
                sources.where, [f'block.{family}: "command" needs respond.command.argv'], [file]
            )
    if config.report.every is not None and config.report.mail and not config.respond.mail.to:
        file = sources.origin(("report", "mail")) or sources.where
        raise ConfigError(sources.where, ["report.mail: needs respond.mail.to"], [file])
    return config
