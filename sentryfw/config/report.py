"""The section [report]: a report of its own at intervals, off until it is configured."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from sentryfw.config.types import Count, Directory, Duration, Section


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
