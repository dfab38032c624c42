"""The bill of materials: complete, and the same for the same wheels."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sbom

from support.packaged import ROOT

METADATA = "Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.2\nLicense-Expression: MIT\n"
PART = {
    "type": "library", "name": "inner", "version": "3", "purl": "pkg:cargo/inner@3",
    "licenses": [{"expression": "MIT OR Apache-2.0"}], "bom-ref": "x", "externalReferences": [],
}  # fmt: skip
DEFINITION = """
overrides:
  deb:
    # netbase has protocols
    depends:
      - "python${SENTRYFW_PYTHON}"
      - libc6 (>= 2.34)
      - a | b
    recommends: [logrotate]
  rpm:
    depends: ["python(abi) = ${SENTRYFW_PYTHON}", nftables]
    suggests: [nmap]
  apk:
    depends: [one (>= 1), two]
  ipk:
    depends: []
"""
VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = Path(sys.argv[1]).read_text()
sys.stdout.write(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) or ""))
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "some_thing-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some/__init__.py", "")
        archive.writestr("some_thing-1.2.dist-info/METADATA", METADATA)
        archive.writestr(
            "some_thing-1.2.dist-info/sboms/x.cyclonedx.json", json.dumps({"components": [PART]})
        )
    return path


def bill(wheel: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom.bill("0.2.0", [wheel], ["libc6"]))
    return found


def test_a_wheel_is_a_component_with_its_licence_and_its_parts(wheel: Path) -> None:
    component = bill(wheel)["components"][0]
    assert (component["name"], component["version"]) == ("some-thing", "1.2")
    assert component["purl"] == "pkg:pypi/some-thing@1.2"
    assert component["licenses"] == [{"license": {"name": "MIT"}}]
    [inner] = component["components"]
    assert (inner["purl"], inner["licenses"]) == (PART["purl"], PART["licenses"])
    assert sbom.licences_of_parts(wheel) == " It contains parts under: MIT OR Apache-2.0."


def test_what_the_package_depends_on_is_in_it(wheel: Path) -> None:
    made = bill(wheel)
    assert [part["name"] for part in made["components"]] == ["some-thing", "libc6"]
    assert made["dependencies"][0]["dependsOn"] == ["pkg:pypi/some-thing@1.2", "depends:libc6"]


def test_the_hash_of_a_locked_wheel_is_that_of_the_lock() -> None:
    lock = (sbom.lay_out.ROOT / "requirements.lock").read_text()
    [source] = sbom._hashes(Path(__file__), "netfilterqueue", lock)
    assert f"netfilterqueue==1.1.0 \\\n    --hash=sha256:{source}\n" in lock


def test_equal_wheels_have_equal_bills_and_others_do_not(wheel: Path) -> None:
    assert sbom.bill("1", [wheel], []) == sbom.bill("1", [wheel], [])
    assert bill(wheel)["serialNumber"] != json.loads(sbom.bill("1", [], []))["serialNumber"]


def test_the_page_for_cockpit_has_the_patternfly_that_is_in_the_tree() -> None:
    made = json.loads(sbom.cockpit_bill("0.2.0", ["sentryfw", "cockpit-ws"]))
    assert made["metadata"]["component"]["name"] == "sentryfw-cockpit"
    [patternfly, *needed] = made["components"]
    pinned = (ROOT / "web/patternfly/update.sh").read_text()
    assert f"VERSION={patternfly['version']}\n" in pinned
    assert len(patternfly["hashes"][0]["content"]) == 128
    assert [part["name"] for part in needed] == ["cockpit-ws", "sentryfw"]


@pytest.mark.package
def test_cyclonedx_accepts_the_bills_and_refuses_a_broken_one(wheel: Path, tmp_path: Path) -> None:
    """Its schema comes with its own library, so this needs no network."""
    bills = [sbom.bill("1", [wheel], ["libc6"]), sbom.cockpit_bill("1", ["sentryfw"])]
    for text in bills:
        assert validated(text, tmp_path) == ""
    assert "Additional properties" in validated(bills[0].replace('"purl"', '"url"'), tmp_path)


def validated(text: str, folder: Path) -> str:
    """Return what CycloneDX's library finds wrong with a bill."""
    path = folder / "bill.json"
    path.write_text(text)
    command = [ROOT / ".venv-sbom" / "bin" / "python", "-I", "-c", VALIDATE, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dependencies_are_read_from_the_definition_of_the_packages() -> None:
    assert sbom.depends(DEFINITION, "deb", "3.11") == ["python3.11", "libc6", "a | b"]
    assert sbom.depends(DEFINITION, "rpm", "3.13") == ["python(abi) = 3.13", "nftables"]
    assert sbom.depends(DEFINITION, "apk", "3.13") == ["one", "two"]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_the_page_depends_on_cockpit_and_sentryfw_in_every_format(kind: str) -> None:
    """The section of the rpm is the last one, and rpm writes bounds without parentheses."""
    definition = (ROOT / "packaging" / "cockpit.yaml").read_text()
    assert sbom.depends(definition, kind, "3.11") == ["sentryfw", "cockpit-bridge", "cockpit-ws"]
