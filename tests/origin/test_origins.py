"""The origins of sources: several files together, and files with faults."""

from pathlib import Path

import pytest

from sentryfw.config.origin import Geo, Labels
from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.origin.origins import Origins
from support.origins import GERMAN, SCANNER, SYSTEM, write_mmdb

NET = "203.0.113.0/24"


def origins(*databases: Path, labels: tuple[Path, ...] = (), **geo: float) -> Origins:
    return Origins(Geo(databases=databases, **geo), Labels(files=labels))


def test_without_files_nothing_is_known_and_nothing_opened() -> None:
    none = origins()
    assert not none.is_wanted
    assert none.of(SCANNER) == NOWHERE
    assert none.faults == []


def test_the_first_database_that_knows_a_value_gives_it(tmp_path: Path) -> None:
    first = write_mmdb(tmp_path / "country.mmdb", {NET: GERMAN})
    second = write_mmdb(
        tmp_path / "asn.mmdb", {NET: {**SYSTEM, "country": "FR"}}, kind="GeoLite2-ASN"
    )
    listed = tmp_path / "research"
    listed.write_text(f"{SCANNER} Research\n")
    found = origins(first, second, labels=(listed,))
    assert found.of(SCANNER) == Origin("DE", 64500, "Example Net", ("Research",))
    assert found.of("203.0.113.8") == Origin("DE", 64500, "Example Net")
    assert found.of("198.51.100.1") == NOWHERE
    assert found.faults == []


@pytest.mark.parametrize("text", ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::/48", "", "x", "a/b/c"])
def test_larger_networks_and_other_texts_have_no_origin(tmp_path: Path, text: str) -> None:
    everywhere = write_mmdb(tmp_path / "a.mmdb", {"::/1": GERMAN})
    assert origins(everywhere).of(text) == NOWHERE


def test_a_source_is_a_network_of_ipv6_or_an_address_with_its_interface(tmp_path: Path) -> None:
    found = origins(write_mmdb(tmp_path / "a.mmdb", {"2001:db8::/32": GERMAN, "fe80::/16": GERMAN}))
    for text in ("2001:db8::/64", "2001:db8::1", "fe80::1%eth0"):
        assert found.of(text) == Origin("DE")


def test_each_fault_is_one_sentence_and_the_others_answer(tmp_path: Path) -> None:
    good = write_mmdb(tmp_path / "good.mmdb", {NET: GERMAN})
    (tmp_path / "broken.mmdb").write_bytes(b"broken")
    listed = tmp_path / "no.list"
    found = origins(
        tmp_path / "no.mmdb", tmp_path / "broken.mmdb", good, labels=(listed,), max_age=1e-9
    )
    for _ in range(3):
        assert found.of(SCANNER) == Origin("DE")
    missing, absent, broken, old = found.faults
    assert missing == f"{listed}: No such file or directory"
    assert absent.endswith("no.mmdb: No such file or directory")
    assert "broken.mmdb: cannot be read" in broken
    assert "good.mmdb: built on" in old


def test_a_database_that_breaks_later_is_left_out(tmp_path: Path) -> None:
    whole = write_mmdb(tmp_path / "a.mmdb", {NET: {**GERMAN, "x": "y" * 100}}).read_bytes()
    place = whole.index(b"\xe1" if b"\xe1" in whole else b"\xe2")
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(whole[:place] + b"\x3f\xff\xff" * 20 + whole[place + 60 :])
    found = origins(broken)
    assert found.of(SCANNER) == found.of(SCANNER) == NOWHERE
    [fault] = found.faults
    assert "broken.mmdb: cannot be read" in fault
