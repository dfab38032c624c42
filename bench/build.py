"""What the bench needs beside Python: its C programs, and Debian's copies of the peers.

Packages are unpacked below build/bench/, never installed: no service of theirs is started or
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
"""Which packages a peer is made of, what it depends on included."""


def compile_programs() -> None:
    """send, watch and nfq_limit, into build/bench/."""
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "-s", "-C", HERE / "c", f"OUT={BUILD}"], check=True)


def fetch_packages() -> str | None:
    """Unpack what is not there yet; what went wrong, where a peer must be left out."""
    names = [name for packages in PACKAGES.values() for name in packages]
    missing = [name for name in names if not (BUILD / "debs" / f"{name}.done").exists()]
    if not missing:
        return None
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    (BUILD / "debs").mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *missing]
    done = subprocess.run(command, cwd=BUILD / "debs", capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["apt-get download failed"])[-1]
    for name in missing:
        _unpack(name)
    for command in ("iptables", "ip6tables"):  # what update-alternatives would have done
        link = ROOT / "usr" / "sbin" / command
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
    return None


def _unpack(name: str) -> None:
    """A package below ROOT, whose /bin, /sbin and /lib are those of a merged /usr."""
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
