"""Databases: both kinds, and each fault as one sentence."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from sentryfw import distribution
from sentryfw.errors import SentryError
from sentryfw.origin import databases
from sentryfw.origin.databases import age_fault, load_reader, open_database
from sentryfw.origin.model import NOWHERE, Origin
from support.origins import GERMAN, SCANNER, SYSTEM, has_libloc, write_libloc, write_mmdb

ADDRESS = ip_address(SCANNER)
NET = "203.0.113.0/24"
needs_libloc = pytest.mark.skipif(not has_libloc(), reason="needs python3-location")


@pytest.mark.parametrize(
    ("record", "origin"),
    [
        (GERMAN, Origin("DE")),
        (SYSTEM, Origin("", 64500, "Example Net")),
        ({"registered_country": {"iso_code": "FR"}}, Origin("FR")),
        ({"country": "Germany", "country_code": "DE", "asn": "AS64500", "as_name": "Example Net"},
         Origin("DE", 64500, "Example Net")),
        ({"country": "DE", "asn": "AS64500"}, Origin("DE", 64500)),
        ({"country": {"iso_code": "<b>"}, "autonomous_system_number": 0}, NOWHERE),
        ({"country": {"iso_code": ["DE"]}, "as_name": {"a": 1}}, NOWHERE),
        ("text", NOWHERE),
    ],
)  # fmt: skip
def test_records_of_several_publishers(tmp_path: Path, record: object, origin: Origin) -> None:
    found = open_database(write_mmdb(tmp_path / "a.mmdb", {NET: record}))
    assert found.find(ADDRESS) == origin
    assert found.find(ip_address("198.51.100.1")) == NOWHERE
    assert found.kind == "GeoLite2-Country"
    assert age_fault(tmp_path, found.built, 3600) == ""


def test_both_families(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "a.mmdb", {NET: GERMAN, "2001:db8::/32": SYSTEM})
    found = open_database(path)
    assert found.find(ip_address("2001:db8::1")) == Origin("", 64500, "Example Net")


@needs_libloc
def test_libloc(tmp_path: Path) -> None:
    found = open_database(write_libloc(tmp_path / "database.db"))
    assert found.kind == "libloc"
    assert found.find(ADDRESS) == Origin("DE", 64500, "Example ?[2J Net")
    assert found.find(ip_address("2001:db8::1")) == Origin("FR", 64501)
    assert found.find(ip_address("198.51.100.1")) == NOWHERE
    assert age_fault(tmp_path, found.built, 3600) == ""


def test_a_file_that_is_missing_empty_or_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mmdb"
    with pytest.raises(SentryError, match=r"a\.mmdb: No such file"):
        open_database(path)
    for data in (b"", b"\0", b"LOC", b"x" * 5000, b"\xab\xcd\xefMaxMind.com" + b"\xff" * 99):
        path.write_bytes(data)
        with pytest.raises(SentryError, match=r"a\.mmdb: cannot be read: .*get it again"):
            open_database(path)


def test_a_file_that_was_cut_or_damaged_is_a_fault_or_an_answer(tmp_path: Path) -> None:
    records = {f"203.0.{n}.0/24": {**GERMAN, **SYSTEM, "n": n} for n in range(114)}
    whole = write_mmdb(tmp_path / "whole.mmdb", records).read_bytes()
    path = tmp_path / "a.mmdb"
    answers = 0
    for number in range(0, len(whole), 37):
        path.write_bytes(whole[:number] + b"\xff" * 8 + whole[number + 8 :])
        with suppress(SentryError):
            assert len(str(open_database(path).find(ADDRESS))) < 200
            answers += 1
    assert 3 < answers < len(range(0, len(whole), 37)) - 3


@needs_libloc
def test_a_libloc_file_that_was_cut(tmp_path: Path) -> None:
    whole = write_libloc(tmp_path / "whole.db").read_bytes()
    path = tmp_path / "a.db"
    path.write_bytes(whole[:100])
    with pytest.raises(SentryError, match=r"a\.db: cannot be read"):
        open_database(path)


def test_a_missing_reader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "DIRECTORIES", ())
    monkeypatch.setattr(databases.importlib, "import_module", _missing)
    with pytest.raises(SentryError, match="its reader is missing: apt install python3-maxminddb"):
        open_database(write_mmdb(tmp_path / "a.mmdb", {NET: GERMAN}))
    (tmp_path / "a.db").write_bytes(databases.LIBLOC_MAGIC)
    with pytest.raises(SentryError, match="its reader is missing: apt install python3-location"):
        open_database(tmp_path / "a.db")


def _missing(module: str) -> None:
    raise ModuleNotFoundError(module)


def test_a_reader_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "maxminddb_other.py").write_text("raise ImportError('wrong\\x1b ABI')\n")
    monkeypatch.setattr(distribution, "DIRECTORIES", (str(tmp_path),))
    with pytest.raises(SentryError, match=r"x\.mmdb: cannot be read: wrong\? ABI"):
        load_reader(tmp_path / "x.mmdb", "maxminddb_other")


def test_a_sentence_names_the_age_of_a_database(tmp_path: Path) -> None:
    text = age_fault(tmp_path / "a.mmdb", 1_600_000_000.0, 86400.0)
    assert text.endswith("a.mmdb: built on 2020-09-13, which is older than [geo] max_age: get a"
                         " newer one")  # fmt: skip
