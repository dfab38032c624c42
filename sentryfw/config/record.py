"""The sections [record], [evidence] and [report]: what is written to the disk, in which bounds."""

from typing import Annotated, Final, Self

from sentryfw.config.form import Field, model_validator
from sentryfw.config.types import MAX_BLOCKS, Count, Directory, Duration, Section

MAX_MIB: Final = 1 << 20


class RecordSection(Section):
    events_per_second: Annotated[Count, Field(ge=1, le=100_000)] = 100
    """Events of one kind (blocks, refusals, ...) that are written one by one in a second; the
    others of that second are counted in one event, `summary`."""
    events_mib: Annotated[Count, Field(ge=1, le=MAX_MIB)] = 8
    """Size in MiB at which events.json is renamed to events-1.json and begun again."""
    events_files: Annotated[Count, Field(ge=0, le=1000)] = 4
    """Renamed files that are kept."""
    ledger_mib: Annotated[Count, Field(ge=8, le=MAX_MIB)] = 64
    """Size in MiB, besides the active blocks, above which the ledger loses its oldest rows."""
    min_free_mib: Annotated[Count, Field(ge=0, le=MAX_MIB)] = 64
    """Free space in MiB below which events, refusals, probes and packets are not written any more;
    blocks still are."""


class EvidenceSection(Section):
    """Packets behind blocks, kept in pcapng files in [paths] state/evidence."""

    packets: Annotated[Count, Field(ge=0, le=64)] = 8
    """Packets kept of a source, the last ones; 0: none."""
    max_files: Annotated[Count, Field(ge=1, le=MAX_BLOCKS)] = 4096
    """Blocks whose packets are kept, the last ones. Those of a few seconds share a file."""
    max_age: Duration = 2592000.0


class ReportSection(Section):
    """A report that is made at intervals."""

    every: Annotated[Duration, Field(ge=3600)] | None = None
    """Interval and period of the reports; None: none are made."""
    directory: Directory | None = None
    """Directory for the pages, which the daemon's user can write; None: no page is kept."""
    keep: Annotated[Count, Field(ge=1, le=1000)] = 12
    """Pages that are kept."""
    mail: bool = False
    """Whether the page is mailed to [respond.mail] to."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.every is not None and self.directory is None and not self.mail:
            raise ValueError("every needs directory, or mail = true")
        return self
