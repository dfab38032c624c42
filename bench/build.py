"""Build the bench's C programs, and unpack Debian's packages of the peers.

Packages are unpacked below build/bench/ and never installed: none of their services is started or
enabled, and no file of the machine changes.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = HERE.parent / "build" / "bench"
ROOT: Final = BUILD / "root"
PEERS: Final = HERE / "peers"

PACKAGES: Final = {
    "portsentry": ("portsentry",),
    "psad": (
        "psad", "iptables", "ulogd2", "net-tools", "psmisc", "libunix-syslog-perl",
        "libnet-ip-perl", "libdate-calc-perl", "libbit-vector-perl", "libcarp-clan-perl",
        "libiptables-parse-perl", "libiptables-chainmgr-perl", "libnetaddr-ip-perl",
        "libip6tc2", "libip4tc2", "libxtables12", "libmnl0", "libnetfilter-acct1",
        "libnetfilter-conntrack3", "libnetfilter-log1", "libnfnetlink0",
    ),
    "fail2ban": ("fail2ban", "scanlogd", "rsyslog", "libestr0", "libfastjson4", "liblognorm5"),
    "http": ("nginx", "nginx-common", "wrk", "libluajit-5.1-2", "libluajit-5.1-common"),
}  # fmt: skip
"""Packages of each peer, with its dependencies."""


def compile_programs() -> None:
    """Compile send, watch and nfq_limit into build/bench/."""
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "-s", "-C", HERE / "c", f"OUT={BUILD}"], check=True)


def fetch_packages() -> str | None:
    """Download and unpack missing packages; return the error that makes peers unavailable."""
    names = [name for packages in PACKAGES.values() for name in packages]
    missing = [name for name in names if not (BUILD / "debs" / f"{name}.done").exists()]
    if not missing:
        return None
    if shutil.which("apt-get") is None:
        return "apt-get is missing"
    (BUILD / "debs").mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *missing]
    done = subprocess.run(command, cwd=BUILD / "debs", capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["apt-get download failed"])[-1]
    for name in missing:
        _unpack(name)
    for program in ("iptables", "ip6tables"):  # these links are update-alternatives' otherwise
        link = ROOT / "usr" / "sbin" / program
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
    return None


def _unpack(name: str) -> None:
    """Unpack a package below ROOT, which has a merged /usr."""
    for directory in ("bin", "sbin", "lib"):
        if not (ROOT / directory).is_symlink():
            (ROOT / "usr" / directory).mkdir(parents=True, exist_ok=True)
            (ROOT / directory).symlink_to(f"usr/{directory}")
    [package] = (BUILD / "debs").glob(f"{name}_*.deb")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as data:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "-C", ROOT], stdin=data.stdout, check=True
        )
    (BUILD / "debs" / f"{name}.done").touch()
