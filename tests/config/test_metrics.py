"""[metrics]: where figures may be served, and that nothing is by default."""

from pathlib import Path

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError


def test_nothing_is_served_by_default() -> None:
    assert not Config().metrics.wanted


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9577", ("127.0.0.1", 9577)),
        ("127.1.2.3:1", ("127.1.2.3", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("/run/sentryfw/metrics.sock", Path("/run/sentryfw/metrics.sock")),
    ],
)
def test_it_listens_on_loopback_or_a_unix_socket(listen: str, address: object) -> None:
    metrics = parse(f'[metrics]\nlisten = "{listen}"'.encode(), "test").metrics
    assert metrics.wanted
    assert metrics.address == address


@pytest.mark.parametrize(
    "setting",
    [
        'listen = "0.0.0.0:9577"', 'listen = "[::]:9577"', 'listen = "192.0.2.1:9577"',
        'listen = "localhost:9577"', 'listen = ":9577"', 'listen = "127.0.0.1"',
        'listen = "127.0.0.1:0"', 'listen = "127.0.0.1:65536"', 'listen = "metrics.sock"',
        f'listen = "/{"x" * 107}"', 'textfile = "sentryfw.prom"', 'textfile = "/x/sentryfw.txt"',
        "every = 0.5", 'every = "2h"', "listen = 9577",
    ],
)  # fmt: skip
def test_any_other_value_is_a_fault(setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[metrics]\n{setting}".encode(), "test")
    [fault] = caught.value.faults
    assert fault.startswith(f"metrics.{setting.split(maxsplit=1)[0]}: ")
