"""Small databases of countries and autonomous systems, and lists of labels, made for the tests."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from sentryfw.origin.databases import load_reader

SCANNER = "203.0.113.7"
GERMAN = {"country": {"iso_code": "DE", "names": {"en": "Germany"}}}
SYSTEM = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"}
WORDS = "DE, AS64500 Example Net, Research scanner"
ITEM = {
    "geo": {"country_iso_code": "DE"},
    "as": {"number": 64500, "organization": {"name": "Example Net"}},
    "labels": ["Research scanner"],
}


def write_mmdb(path: Path, records: dict[str, Any], kind: str = "GeoLite2-Country") -> Path:
    """Write a .mmdb file of now."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def write_libloc(path: Path) -> Path:
    """Write a database of libloc with its own writer (python3-location)."""
    writer = load_reader(path, "location").Writer()
    writer.add_as(64500).name = "Example \x1b[2J Net"
    network = writer.add_network("203.0.113.0/24")
    network.country_code, network.asn = "DE", 64500
    network = writer.add_network("2001:db8::/32")
    network.country_code, network.asn = "FR", 64501
    writer.add_country("DE").name = "Germany"
    writer.write(str(path))
    return path


def settings(directory: Path) -> str:
    """Write both kinds of files, and return the sections that name them."""
    both = write_mmdb(directory / "both.mmdb", {"203.0.113.0/24": {**GERMAN, **SYSTEM}})
    labels = directory / "research.list"
    labels.write_text("203.0.113.0/28 Research scanner\n")
    return f'[geo]\ndatabases = ["{both}"]\n[labels]\nfiles = ["{labels}"]\n'


def misp(name: str, *networks: object, **more: object) -> str:
    """Return a warning list of MISP."""
    return json.dumps({"name": name, "type": "cidr", "list": networks, "version": 1, **more})


def has_libloc() -> bool:
    """Return whether python3-location is there."""
    return (
        importlib.util.find_spec("location") is not None
        or Path("/usr/lib/python3/dist-packages/location").is_dir()
    )
