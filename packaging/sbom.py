"""The software bill of materials of a package, in CycloneDX 1.6 (cyclonedx.org).

Components are the wheels in the private environment, with the hash of each as it was built or
downloaded, what their own bills name (the Rust parts of pydantic-core), and what the package
depends on. Equal packages have equal bills: there is no time and no random number in them.
"""

import base64
import email
import email.policy
import hashlib
import json
import re
import uuid
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path
from typing import Any, Final

import lay_out

Component = dict[str, Any]
NAMESPACE: Final = uuid.UUID("5e6d8f5c-0d63-5b0c-9a35-3f1d2f6d7c11")
"""Namespace of the serial numbers, which follow from a bill's components."""


def bill(version: str, wheels: Iterable[Path], depends: Iterable[str]) -> str:
    """Return the program's bill as JSON. `depends`: the names of the distribution's packages."""
    lock = (lay_out.ROOT / "requirements.lock").read_text()
    components = [component for wheel in wheels for component in _of_wheel(wheel, lock)]
    return _document("sentryfw", version, "GPL-2.0-or-later", [*components, *_needed(depends)])


def cockpit_bill(version: str, depends: Iterable[str]) -> str:
    """Return the bill of the page for Cockpit: PatternFly, of the version and with the hash that
    update.sh pins."""
    script = (lay_out.ROOT / "web" / "patternfly" / "update.sh").read_text()
    pins = dict(re.findall(r"^(VERSION|SHA512)=(\S+)$", script, re.MULTILINE))
    place = f"pkg:npm/%40patternfly/patternfly@{pins['VERSION']}"
    digest = base64.b64decode(pins["SHA512"]).hex()
    patternfly: Component = {
        "type": "library",
        "bom-ref": place,
        "name": "@patternfly/patternfly",
        "version": pins["VERSION"],
        "purl": place,
        "hashes": [{"alg": "SHA-512", "content": digest}],
        "licenses": [{"license": {"id": "MIT"}}],
    }
    licence = "GPL-2.0-or-later AND MIT"
    return _document("sentryfw-cockpit", version, licence, [patternfly, *_needed(depends)])


def _needed(depends: Iterable[str]) -> list[Component]:
    """Return the components that the distribution brings."""
    return [
        {"type": "library", "name": name, "bom-ref": f"depends:{name}", "scope": "required"}
        for name in sorted(depends)
    ]


def _document(name: str, version: str, licence: str, components: list[Component]) -> str:
    text = json.dumps(components, sort_keys=True)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{version} {text}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": name,
                "name": name,
                "version": version,
                "licenses": [{"expression": licence}],
            },
        },
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": [part["bom-ref"] for part in components]}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def depends(definition: str, kind: str, version: str) -> list[str]:
    """Return the names of the packages that a package depends on, by nfpm's definition. `version`:
    of Python."""
    section = definition.partition(f"\n  {kind}:\n")[2].partition("    depends:")[2]
    section = re.split(r"\n {0,4}\w", section)[0].replace("${SENTRYFW_PYTHON}", version)
    lines = (line for line in section.splitlines() if not line.lstrip().startswith("#"))
    words = (word.strip(' []"') for line in lines for word in line.lstrip(" -").split(","))
    return [re.sub(r" (\(.*?\)|[<>]=? \S+)", "", word) for word in words if word]


def metadata(path: Path) -> Message:
    """Return the fields of a wheel's METADATA."""
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name), policy=email.policy.compat32)


def contents(path: Path) -> tuple[list[str], str]:
    """Return the names of the modules and packages that a wheel installs, and the name of the
    folder with its licence."""
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[0] for name in archive.namelist()}
    [papers] = [name for name in names if name.endswith(".dist-info")]
    return sorted(names - {papers}), papers


def licence_of(fields: Message) -> str:
    """Return the licence of a wheel as its metadata names it, in one line."""
    classified = [
        value.rpartition(" :: ")[2]
        for value in fields.get_all("Classifier", [])
        if value.startswith("License ::")
    ]
    found = fields["License-Expression"] or fields["License"] or ", ".join(classified)
    return str(found or "see its directory").strip().splitlines()[0]


def licences_of_parts(path: Path) -> str:
    """Return a sentence with the licences that a wheel's own bills name, or an empty text."""
    found = {
        str(licence.get("expression") or licence.get("license", {}).get("id", "unnamed"))
        for part in _own_parts(path, "")
        for licence in part.get("licenses", [])
    }
    return f" It contains parts under: {'; '.join(sorted(found))}." if found else ""


def _of_wheel(path: Path, lock: str) -> Iterable[Component]:
    """Yield the component of a wheel; what its own bills name is nested in it. It has the hash that
    the lock has: of the wheel, or of the sources of what was compiled here."""
    fields = metadata(path)
    name = re.sub("[-_.]+", "-", str(fields["Name"]).lower())  # PEP 503
    version = str(fields["Version"])
    if name == "sentryfw":
        return
    place = f"pkg:pypi/{name}@{version}"
    component: Component = {
        "type": "library",
        "bom-ref": place,
        "name": name,
        "version": version,
        "purl": place,
        "hashes": [{"alg": "SHA-256", "content": one} for one in _hashes(path, name, lock)],
        "licenses": [{"license": {"name": licence_of(fields)}}],
    }
    parts = _own_parts(path, place)
    yield component | ({"components": parts} if parts else {})


def _hashes(path: Path, name: str, lock: str) -> list[str]:
    entry = lock.partition(f"{name}==")[2].partition("\n    # via")[0]
    locked = re.findall(r"sha256:(\w+)", entry)
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    return [own] if own in locked else locked


def _own_parts(path: Path, place: str) -> list[Component]:
    with zipfile.ZipFile(path) as archive:
        bills = [name for name in archive.namelist() if ".dist-info/sboms/" in name]
        return [part for name in bills for part in _parts(archive.read(name), place)]


def _parts(data: bytes, place: str) -> Iterable[Component]:
    """Yield the components of a wheel's own bill, with what a reader looks for."""
    for part in json.loads(data).get("components", []):
        kept = {
            key: part[key]
            for key in ("type", "name", "version", "purl", "hashes", "licenses")
            if key in part
        }
        yield kept | {"bom-ref": f"{place}#{part['name']}@{part.get('version', '')}"}
