"""The sections of [respond] about systems that act on our blocks: bounds and messages."""

import pytest

from sentryfw.config import parse
from sentryfw.errors import ConfigError


def test_nothing_is_announced_until_it_is_configured() -> None:
    bgp = parse(b"", "test.toml").respond.bgp
    assert (bgp.enabled, bgp.table, bgp.max_routes) == (False, 5277, 1000)


@pytest.mark.parametrize("table", [253, 254, 255])
def test_a_table_that_this_host_routes_by_is_refused(table: int) -> None:
    with pytest.raises(ConfigError, match=f"{table} is a table that this host routes by"):
        parse(f"[respond.bgp]\ntable = {table}\n".encode(), "test.toml")


@pytest.mark.parametrize(
    "line",
    ["table = 0", "table = 4294967296", "table = true", "max_routes = 0", "max_routes = 1e9"],
)
def test_other_bounds(line: str) -> None:
    with pytest.raises(ConfigError, match=r"respond\.bgp"):
        parse(f"[respond.bgp]\n{line}\n".encode(), "test.toml")


def test_the_largest_table_is_taken() -> None:
    given = parse(b"[respond.bgp]\ntable = 4294967295\n", "test.toml")
    assert given.respond.bgp.table == 0xFFFF_FFFF


# --- CrowdSec

LOGIN = 'credentials = "/etc/sentryfw/crowdsec"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('url = "https://lapi.example/"\n', "url and credentials go together"),
        (LOGIN, "url and credentials go together"),
        (f'url = "http://lapi.example/"\n{LOGIN}', "write https"),
        (f'url = "https://lapi.example/?a=b"\n{LOGIN}', "write the URL of the local API"),
        (f'url = "https://lapi.example/{{token}}"\n{LOGIN}', "write the URL of the local API"),
        ('forgeable = "all"\n', "forgeable"),
    ],
)
def test_faults_of_crowdsec(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(f"[respond.crowdsec]\n{text}".encode(), "test.toml")


def test_a_lapi_on_this_host_needs_no_tls() -> None:
    text = f'[respond.crowdsec]\nurl = "http://127.0.0.1:8080/"\n{LOGIN}'
    given = parse(text.encode(), "test.toml").respond.crowdsec
    assert (given.url, given.forgeable) == ("http://127.0.0.1:8080/", "alert")
