"""A release has notes, one version everywhere, a tag, and a manifest that sha256sum(1) accepts."""

import subprocess
from pathlib import Path

import pytest
import release


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "changelog").write_text("sentryfw (1.2.3-1) unstable; urgency=low\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-11-26\n")
    return tmp_path


def test_a_tree_of_one_version_is_a_release(tree: Path) -> None:
    assert release.faults(tree, "1.2.3", ["v1.2.3", "other"]) == []


@pytest.mark.parametrize(
    ("file", "fault"),
    [("CHANGELOG.md", "CHANGELOG.md has no section"), ("debian/changelog", "debian/changelog be")],
)
def test_a_file_of_another_version_is_a_fault(tree: Path, file: str, fault: str) -> None:
    path = tree / file
    path.write_text(path.read_text().replace("1.2.3", "1.2.4"))
    [found] = release.faults(tree, "1.2.3", ["v1.2.3"])
    assert found.startswith(fault)


def test_a_commit_without_its_tag_is_a_fault(tree: Path) -> None:
    assert release.faults(tree, "1.2.3", ["v1.2.2"]) == ["the commit has no tag: git tag -s v1.2.3"]


def test_the_manifest_is_one_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b.deb").write_bytes(b"b")
    (tmp_path / "a.rpm").write_bytes(b"a")
    (tmp_path / release.MANIFEST).write_text(release.manifest(tmp_path))
    assert len(release.manifest(tmp_path).splitlines()) == 2, "without itself"
    check = ["sha256sum", "--check", "--strict", release.MANIFEST]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "a.rpm").write_bytes(b"changed")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1
