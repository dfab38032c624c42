"""The report of a period, from a ledger and a table that cannot be read."""

import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import NotInstalled, SentryError
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.tools.report.report import make, place_text


class MissingTable:
    """A table that is not installed."""

    def require(self) -> None:
        raise NotInstalled("SentryFW is not installed")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    paths = {name: tmp_path / name for name in ("state", "runtime", "log")}
    paths["state"].mkdir(0o750)
    return Config.model_validate({"paths": paths})


def test_a_block_is_in_the_report_without_a_table(config: Config) -> None:
    with Ledger(config.paths.ledger) as ledger:
        ledger.add([manual_entry("203.0.113.7", 4, 3600.0, time.time())])
    table: Any = MissingTable()
    report = make(config, table, 60.0)
    assert (report["blocks"], report["sources"], sum(report["timeline"])) == (1, 1, 1)
    assert [hour["blocks"] for hour in report["hours"]] == [1]
    assert report["top_sources"][0]["address"] == "203.0.113.7"
    assert report["top_sources"][0]["dropped_packets"] is None
    assert report["dropped_since_install"] is None
    assert "SentryFW is not installed" in report["dropped_remark"]


def test_without_a_ledger_the_error_names_it(config: Config) -> None:
    table: Any = MissingTable()
    with pytest.raises(SentryError, match=r"ledger\.db: the ledger does not exist"):
        make(config, table, 60.0)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("tcp/22", "tcp/22"), ("udp/0", "udp"), ("icmp/8", "icmp/8"),
        ("47/0", "GRE (IP protocol 47)"),
        ("200/0", "(IP protocol 200)"), ("", ""),
    ],
)  # fmt: skip
def test_a_probed_place_in_words(place: str, text: str) -> None:
    assert place_text(place) == text
