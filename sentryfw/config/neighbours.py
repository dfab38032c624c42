"""The sections of [respond] about other systems that act on our blocks: routers, CrowdSec."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from sentryfw.config.form import AfterValidator, Field, model_validator
from sentryfw.config.types import Count, Directory, Duration, Section
from sentryfw.config.webhook import TOKEN, WebhookUrl

_KERNELS_TABLES: Final = (253, 254, 255)
"""default, main and local (iproute2's rt_tables): this host routes by them."""


def _own_table(value: int) -> int:
    if value in _KERNELS_TABLES:
        raise ValueError(f"{value} is a table that this host routes by: write another, like 5277")
    return value


class Bgp(Section):
    """Routes to proven sources, in a routing table of their own, for a BGP daemon to announce."""

    enabled: bool = False
    table: Annotated[Count, Field(ge=1, le=0xFFFF_FFFF), AfterValidator(_own_table)] = 5277
    """Routing table that the BGP daemon reads; no packet of this host is routed by it."""
    max_routes: Annotated[Count, Field(ge=1, le=100_000)] = 1000
    """Routes of both families; later blocks wait until others have ended."""


def check_api(url: str | None, credentials: Path | None) -> None:
    """Check a section's URL of CrowdSec's local API, and that both are given or none. Raise
    ValueError."""
    if (url is None) != (credentials is None):
        raise ValueError("url and credentials go together")
    if url is not None and (TOKEN in url or urlsplit(url).query):
        raise ValueError("write the URL of the local API, like https://lapi.example.org:8080/")


class Crowdsec(Section):
    """Blocks at CrowdSec's local API, for its bouncers to enforce."""

    url: WebhookUrl | None = None
    """URL of the local API; None: off."""
    credentials: Directory | None = None
    """TOML file with a machine's `user` and `password`, mode 0600."""
    ca: Directory | None = None
    """File of CA certificates; None: the system's."""
    forgeable: Literal["off", "alert", "decision"] = "alert"
    """Form in which blocks are pushed whose evidence can be forged; proven ones get a decision."""
    max_decisions: Annotated[Count, Field(ge=1, le=100_000)] = 10_000
    spool: Annotated[Count, Field(ge=1, le=100_000)] = 1000
    """Alerts that wait while the API is unreachable; more are counted as failed."""
    timeout: Annotated[Duration, Field(le=120)] = 15.0
    """Seconds for an answer."""

    @property
    def place(self) -> tuple[str | None, Path | None]:
        """The API and the machine there: decisions elsewhere, or of another one, are not these."""
        return self.url, self.credentials

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_api(self.url, self.credentials)
        return self
