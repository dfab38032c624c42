"""The sections of [respond] about other systems that act on our blocks."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from sentryfw.config.types import Count, Section

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
