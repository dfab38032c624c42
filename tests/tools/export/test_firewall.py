"""Blocks in the formats of firewalls: text that the readers of each format can read back."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Final

import pytest

from sentryfw.tools.drill.namespace import Namespace
from sentryfw.tools.export.blocks import ExportedBlock
from sentryfw.tools.export.firewall import RENDER
from support.entries import BLOCK, SIX

FOUND: Final = (
    ExportedBlock(BLOCK.address, 4, 60.0, 7, BLOCK),
    ExportedBlock(SIX.address, 6, 0.0, 0, SIX),
    ExportedBlock("203.0.113.0/24", 4, None, None, None),
)


def _text(form: str) -> str:
    return "".join(RENDER[form](iter(FOUND)))


def test_plain_and_cidr_have_one_entry_a_line() -> None:
    assert _text("plain").splitlines() == [BLOCK.address, SIX.address, "203.0.113.0/24"]
    assert _text("cidr").splitlines() == [f"{BLOCK.address}/32", SIX.address, "203.0.113.0/24"]


def test_nft_has_the_remaining_time_and_none_where_a_block_does_not_end() -> None:
    text = _text("nft")
    assert re.search(rf"{BLOCK.address}(/32)? timeout \d+", text)
    assert f"{SIX.address} timeout" not in text


@pytest.mark.netns
@pytest.mark.parametrize("days", [2, 1200, 3650])
def test_nft_loads_what_lasts_long(namespace: Namespace, tmp_path: Path, days: int) -> None:
    path = tmp_path / "long.nft"
    found = [ExportedBlock("203.0.113.0/24", 4, days * 86400.0 - 1, 0, None)]
    path.write_text("".join(RENDER["nft"](iter(found))))
    done = namespace.run("nft", "-f", str(path))
    assert done.returncode == 0, done.stderr
    listed = json.loads(namespace.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    [elements] = [item["set"]["elem"] for item in listed if "elem" in item.get("set", {})]
    assert elements[0]["elem"]["timeout"] == days * 86400 - 1


@pytest.mark.parametrize("form", ["csv", "json"])
def test_every_block_has_its_facts(form: str) -> None:
    text = _text(form)
    rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)
    assert [row["address"] for row in rows] == [item.address for item in FOUND]
    assert rows[0]["scan"] == "portscan"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_block_has_the_zone_that_judged_it(form: str) -> None:
    found = [FOUND[0], FOUND[0]._replace(entry=BLOCK._replace(zone="guest")), FOUND[2]]
    text = "".join(RENDER[form](iter(found)))
    rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)
    nothing = "" if form == "csv" else None
    assert [row["zone"] for row in rows] == ["", "guest", nothing]


def test_stix_has_confidence_by_whether_the_evidence_can_be_forged() -> None:
    proven = BLOCK._replace(forgeable=False)
    found = (FOUND[0], ExportedBlock("198.18.0.9", 4, 60.0, 0, proven))
    bundle = json.loads("".join(RENDER["stix"](iter(found))))
    assert [item["confidence"] for item in bundle["objects"][1:]] == [50, 90]
