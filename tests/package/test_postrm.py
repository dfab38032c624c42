"""The purge of the .deb where `sentryfw uninstall` could not run: nothing of ours is left."""

from pathlib import Path

import pytest

from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

POSTRM = Path(__file__).parents[2] / "packaging" / "deb" / "postrm"
LEFT = (
    "etc/systemd/system/sentryfw.service", "etc/systemd/system/sentryfw-respond.socket",
    "etc/systemd/system/sentryfw-respond.service", "etc/sentryfw/last-good/sentryfw.toml",
    "etc/sysusers.d/sentryfw.conf", "var/lib/sentryfw/ledger.db", "run/sentryfw/table.lock",
    "etc/systemd/system/multi-user.target.wants/sentryfw.service",
    "etc/systemd/system/sockets.target.wants/sentryfw-respond.socket",
    "etc/systemd/system/sentryfw.service.d/site.conf", "run/sentryfw-respond.sock",
    "etc/sentryfw/conf.d/50-site.toml", "etc/sentryfw/sentryfw.toml~",
    "etc/systemd/system/sentryfw-link.service", "etc/sentryfw/fleet/key.pem",
    "etc/systemd/system/multi-user.target.wants/sentryfw-link.service",
    "run/sentryfw-link/status.json",
    "etc/apparmor.d/local/sentryfwd", "etc/apparmor.d/force-complain/sentryfwd",
)  # fmt: skip
KEPT = (
    "etc/systemd/system/multi-user.target.wants/other.service",
    "etc/systemd/system/other.service",
    "etc/apparmor.d/local/other",
    "etc/sentryfw/sentryfw.toml",
    "etc/sentryfw/conf.d/README",
)
DENIED = "x: y\n# BEGIN SentryFW: kept\nALL: 203.0.113.7\n# END SentryFW\nz: w\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with what an installation left."""
    for name in (*LEFT, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "etc" / "hosts.deny").write_text(DENIED)
    return tmp_path


def _purge(namespace: Namespace, root: Path) -> None:
    """Run postrm with the root's /etc, /var/lib and /run in place of the machine's."""
    binds = "".join(f"mount --bind {root}/{name} /{name}; " for name in ("etc", "var/lib", "run"))
    script = f"{binds} PATH=/usr/sbin:/usr/bin:/sbin:/bin exec sh {POSTRM} purge"
    done = namespace.run("unshare", "--mount", "sh", "-ec", script)
    assert done.returncode == 0, done.stderr


def test_a_purge_leaves_nothing_of_ours(namespace: Namespace, root: Path) -> None:
    namespace.ip("link", "set", "lo", "up")
    namespace.run("nft", "add table inet sentryfw; add table inet sentryfw-off; add table inet x")
    namespace.ip("route", "add", "blackhole", "203.0.113.7/32", "proto", "83")
    namespace.ip("-6", "route", "add", "blackhole", "2001:db8::/64", "proto", "83")
    namespace.ip("route", "add", "blackhole", "203.0.113.8/32")
    _purge(namespace, root)
    assert [name for name in LEFT if (root / name).exists()] == []
    assert [name for name in KEPT if not (root / name).exists()] == []
    assert (root / "etc" / "hosts.deny").read_text() == "x: y\nz: w\n"
    assert namespace.run("nft", "list", "tables").stdout == "table inet x\n"
    routes = namespace.ip("route") + namespace.ip("-6", "route", "show", "proto", "83")
    assert routes.split("\n") == ["blackhole 203.0.113.8 ", ""]
