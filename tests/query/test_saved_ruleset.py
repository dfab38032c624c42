"""Files with our table in them, as `nft list ruleset` printed it."""

from pathlib import Path

import pytest

from sentryfw.netfilter.schema import TABLE
from sentryfw.query.saved_ruleset import find, warning
from sentryfw.tools.drill.namespace import Namespace
from support.box import Box

OURS = "flush ruleset\ntable inet sentryfw {\n\tchain judge {\n\t}\n}\n"


def _write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    ["etc/nftables.conf", "etc/nftables.d/40-all.nft", "etc/sysconfig/nftables.conf",
     "var/lib/nftables/rules-save"],
)  # fmt: skip
def test_the_places_of_the_distributions_are_read(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, name, OURS)
    assert list(find(tmp_path)) == [path]
    assert f"{path} has table inet {TABLE} in it" in warning(path)


@pytest.mark.parametrize(
    "text",
    [
        "table inet filter {\n}\n",
        "# table inet sentryfw {\n",
        "table inet sentryfw2 {\n}\n",
        "table ip sentryfw {\n}\n",
        'include "/etc/nftables.d/*.nft"\n',
        "\0\xff",
    ],
)
def test_other_files_are_not_named(tmp_path: Path, text: str) -> None:
    _write(tmp_path, "etc/nftables.conf", text)
    (tmp_path / "etc/nftables.d/a.nft").mkdir(parents=True)
    assert list(find(tmp_path)) == []


@pytest.mark.netns
def test_what_nft_lists_of_an_install_is_found(box: Box, tmp_path: Path) -> None:
    box.install()
    listed = box.namespace.run("nft", "list", "ruleset").stdout
    path = _write(tmp_path, "etc/nftables.conf", f"flush ruleset\n{listed}")
    assert list(find(tmp_path)) == [path]
    with Namespace() as rebooted:  # an nft that does load it loads no queue rule
        done = rebooted.run("nft", "-f", str(path))
        judge = rebooted.run("nft", "list", "chain", "inet", TABLE, "judge").stdout
    assert done.returncode or "NFQUEUE" not in judge
