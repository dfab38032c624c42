"""Two clones in different folders make the same package, byte for byte."""

import subprocess
from pathlib import Path

import pytest

from support.packaged import ROOT, build

pytestmark = [pytest.mark.package, pytest.mark.root]


def test_two_clones_make_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name, inside in (("one", "build/sentryfw"), ("deeper/another", "build/another/place")):
        clone = tmp_path / name
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        package = tmp_path / f"{len(made)}.deb"
        build("deb", "1", package, tree=clone, inside=inside)
        made.append(package.read_bytes())
    assert made[0] == made[1]
