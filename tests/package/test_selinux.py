"""The SELinux module: built by the policy's own Makefile, linked into the whole policy of a suite,
and asked what it allows. No kernel here runs it: what an enforcing host denies is not tested."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Final

import pytest
import suites

from support.machine import APT, chroot
from support.packaged import ROOT, ROOTS

pytestmark = [pytest.mark.package, pytest.mark.root]

MODULE: Final = ROOT / "packaging" / "selinux"
PACKAGES: Final = ("selinux-policy-dev", "selinux-policy-default", "setools")
PLACE: Final = PurePosixPath("srv/selinux")
BUILD: Final = """\
make -f /usr/share/selinux/devel/Makefile sentryfw.pp
semodule --store default --noreload --install sentryfw.pp
"""
DENIED: Final = {
    "the passwords": ("shadow_t", "file", "read"),
    "a shell": ("shell_exec_t", "file", "execute"),
    "a shell, without a change of domain": ("shell_exec_t", "file", "execute_no_trans"),
    "writing to /etc": ("etc_t", "file", "write"),
    "writing to /usr": ("usr_t", "file", "write"),
    "writing its configuration": ("sentryfw_conf_t", "file", "write"),
    "another program's memory": ("domain", "process", "ptrace"),
}
ALLOWED: Final = {
    "Python": ("bin_t", "file", "execute_no_trans"),
    "its ledger": ("sentryfw_var_lib_t", "file", "write"),
    "mapping its ledger": ("sentryfw_var_lib_t", "file", "map"),
    "its events": ("sentryfw_log_t", "file", "append"),
    "its socket": ("sentryfw_runtime_t", "sock_file", "create"),
    "its configuration": ("sentryfw_conf_t", "file", "read"),
    "the table and the queue": ("sentryfw_t", "netlink_netfilter_socket", "create"),
    "the capability": ("sentryfw_t", "capability", "net_admin"),
}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def policy(request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A root, and the place of its policy with our module."""
    suite: str = request.param
    root = suites.made(suite, ROOTS)
    suites.enter(root, PurePosixPath(), "sh", "-ec", f"{' '.join(APT)} update >/dev/null")
    words = (*APT, "install", *PACKAGES)
    suites.enter(root, PurePosixPath(), "env", "DEBIAN_FRONTEND=noninteractive", *words)
    shutil.copytree(MODULE, root / PLACE, dirs_exist_ok=True)
    suites.enter(root, PLACE, "sh", "-ec", BUILD)
    [place] = (root / "etc/selinux/default/policy").glob("policy.*")
    return root, f"/{place.relative_to(root)}"


def _rules(policy: tuple[Path, str], *words: str) -> str:
    root, place = policy
    return chroot(root, "sesearch", *words, place)


def _allowed(policy: tuple[Path, str], target: str, kind: str, right: str) -> str:
    return _rules(policy, "-A", "-s", "sentryfw_t", "-t", target, "-c", kind, "-p", right)


def test_the_service_gets_its_domain(policy: tuple[Path, str]) -> None:
    into = ("-s", "init_t", "-t", "sentryfw_exec_t", "-c", "process")
    assert "sentryfw_t" in _rules(policy, "-T", *into)
    # The unit has NoNewPrivileges=: without this right the change of domain is left out.
    rights = _rules(policy, "-A", "-s", "init_t", "-t", "sentryfw_t", "-c", "process2")
    assert "nnp_transition" in rights


@pytest.mark.parametrize("what", ALLOWED)
def test_it_allows_what_the_daemon_needs(policy: tuple[Path, str], what: str) -> None:
    assert "allow" in _allowed(policy, *ALLOWED[what])


@pytest.mark.parametrize("what", DENIED)
def test_it_does_not_allow(policy: tuple[Path, str], what: str) -> None:
    assert _allowed(policy, *DENIED[what]) == ""


def test_it_is_permissive_as_it_was_never_run(policy: tuple[Path, str]) -> None:
    root, place = policy
    assert "sentryfw_t" in chroot(root, "seinfo", place, "--permissive")
