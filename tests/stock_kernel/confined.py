"""Runs inside the emulated machine: the packaged service under systemd and its AppArmor profile.

Prints one line of JSON after MARK. systemd is started in a process namespace: the machine's own
first process is not systemd.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sentryfw.tools.drill.namespace import Namespace, add_address

MARK: Final = "STOCK-KERNEL-RESULT "
BOOTED: Final = "STOCK-KERNEL-BOOTED"
ENDED: Final = "STOCK-KERNEL-ENDED"
MODULES: Final = (
    "nf_tables", "nft_queue", "nfnetlink_queue", "nft_ct", "nft_fib_inet", "nft_socket",
    "nft_limit", "nft_redir", "veth",
)  # fmt: skip
PROFILE: Final = Path("/etc/apparmor.d/sentryfwd")
CONFIG: Final = Path("/etc/sentryfw/sentryfw.toml")
LISTS: Final = Path("/srv/lists")
"""A directory of the operator's, which a profile cannot know."""
DAEMON: Final = "/usr/sbin/sentryfwd"
VICTIM: Final = "198.18.0.1"
FIRST, SECOND, THIRD, VISITOR = (f"198.18.0.{number}" for number in (2, 3, 4, 5))
DECOY_PORT: Final = 2323
METRICS_PORT: Final = 9577
PATIENCE_S: Final = 240.0
"""Seconds for what has to happen: the emulation starts the daemon in 20 to 60."""
OPTIONS: Final = f"""\
[never_block]
files = ["{LISTS}/friends"]
"""
MORE: Final = f"""\
[decoy]
tcp = [{DECOY_PORT}]
banner = "hello"
[metrics]
listen = "127.0.0.1:{METRICS_PORT}"
[respond.route]
enabled = true
[respond.history]
format = "portsentry2"
[respond.log]
to = "journal"
[respond.mail]
to = ["root@localhost"]
"""
"""The options of a reload: other processes, sockets and files."""
BOOT: Final = """\
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \\
  systemd-udev-trigger.service systemd-modules-load.service systemd-networkd.service \\
  systemd-firstboot.service e2scrub_reap.service apparmor.service; do
  ln -s /dev/null "/run/systemd/system/$unit"
done
exec env -i container=lab PATH="$PATH" /lib/systemd/systemd --unit=basic.target
"""
NEEDED: Final = "read the configuration"
ATTEMPTS: Final = {
    "read /etc/shadow": "open('/etc/shadow').read()",
    "read a file of root's": "open('/root/installed').read()",
    "run a shell": "subprocess.run(['/bin/sh', '-c', ':'])",
    "run nft": "subprocess.run(['/usr/sbin/nft', '-v'])",
    "write below /etc": "open('/etc/sentryfw/conf', 'w')",
    "write the program": "open('/usr/lib/sentryfw/bin/sentryfw', 'a')",
    "write a unit": "open('/run/systemd/system/x.service', 'w')",
    "mount": "assert ctypes.CDLL(None).mount(b'none', b'/mnt', b'tmpfs', 0, None) == 0",
    "listen to raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    NEEDED: "open('/etc/sentryfw/sentryfw.toml').read()",
}
"""Python that fails if it is denied, tried as root: all but NEEDED is what a daemon that was taken
over would want."""
TRY: Final = """\
import ctypes, json, socket, subprocess, sys
allowed = []
for name, code in json.loads(sys.argv[1]).items():
    try:
        exec(code)
    except (OSError, AssertionError):
        continue
    allowed.append(name)
print(json.dumps(allowed))
"""


def main() -> None:
    print(BOOTED, flush=True)
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0")  # each denial is logged
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", PROFILE], check=True)
    LISTS.mkdir()
    (LISTS / "friends").write_text("192.0.2.1\n")
    CONFIG.write_text(OPTIONS)
    systemd = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", BOOT]
    )
    try:
        with Namespace() as attacker:
            found = serve(Machine(systemd.pid), attacker)
    finally:
        systemd.kill()
    print(MARK + json.dumps(found), flush=True)


class Machine:
    """The systemd in its namespaces."""

    def __init__(self, holder: int) -> None:
        children = Path(f"/proc/{holder}/task/{holder}/children")
        self._init = wait_for(lambda: children.read_text().split(), "systemd")[0]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--target={self._init}", "--mount", "--pid", "--", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def has_booted(self) -> bool:
        return self.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def said(self, *words: str) -> str:
        print(f"{time.monotonic():.0f} s:", *words, flush=True)
        done = self.run(*words)
        if done.returncode:
            log = self.run("journalctl", "--no-pager", "-u", "sentryfw", "-o", "cat").stdout
            raise SystemExit(f"{words}: {done.stdout}{done.stderr}{log[-3000:]}{kernel_log()}")
        return done.stdout


def serve(machine: Machine, attacker: Namespace) -> dict[str, Any]:
    """Install and use the service; return what was seen."""
    wait_for(machine.has_booted, "systemd has booted")
    # Between the machine's own network and the attacker's.
    subprocess.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "veth1"], check=True)
    subprocess.run(["ip", "link", "set", "veth1", "netns", str(attacker.pid)], check=True)
    subprocess.run(["ip", "address", "add", f"{VICTIM}/24", "dev", "veth0"], check=True)
    subprocess.run(["ip", "link", "set", "veth0", "up"], check=True)
    for address in (FIRST, SECOND, THIRD, VISITOR):
        add_address(attacker, "veth1", f"{address}/24")
    attacker.ip("link", "set", "veth1", "up")
    machine.said("sentryfw", "install")
    found: dict[str, Any] = {"kernel": os.uname().release, "confined": [confined(machine)]}
    scan(attacker, FIRST)
    CONFIG.write_text(OPTIONS + MORE)
    machine.said("systemctl", "reload", "sentryfw")
    wait_for(lambda: len(confined(machine)) > 1, "the decoys' process runs")
    found["confined"].append(confined(machine))
    found["visited"] = visited(attacker)
    scan(attacker, SECOND)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    found["healed"] = wait_for(lambda: in_the_table(FIRST), "the table is there again")
    machine.said("systemctl", "restart", "sentryfw")
    found["kept"] = in_the_table(SECOND)
    scan(attacker, THIRD)
    rows = json.loads(machine.said("sentryfw", "list", "--json"))
    found["recorded"] = {row["address"]: row["reason"] for row in rows}
    found["status"] = json.loads(machine.said("sentryfw", "status", "--json"))
    found["denied"] = denials()
    found["attempts"] = [*ATTEMPTS]
    found["allowed to root"] = allowed(machine)
    found["allowed to the profile"] = allowed(machine, "aa-exec", "-p", "sentryfwd", "--")
    found["denied then"] = denials()
    return found


def confined(machine: Machine) -> dict[str, str]:
    """Return the profile of each process of the service, by its pid."""
    shown = machine.said("systemctl", "show", "--value", "--property=ControlGroup", "sentryfw")
    pids = Path(f"/sys/fs/cgroup{shown.strip()}/cgroup.procs").read_text().split()
    return {pid: Path(f"/proc/{pid}/attr/apparmor/current").read_text().strip() for pid in pids}


def scan(attacker: Namespace, source: str) -> None:
    """Scan as this source, until it is blocked."""
    attacker.run(
        "nmap", "-n", "-Pn", "-sS", "-S", source, "-e", "veth1", "-p", "1-20", "--max-retries", "0",
        VICTIM,
    )  # fmt: skip
    wait_for(lambda: in_the_table(source), f"{source} is blocked")


def visited(attacker: Namespace) -> str:
    """Return the banner of a decoy."""
    code = (
        "import socket; s = socket.create_connection"
        f"(('{VICTIM}', {DECOY_PORT}), 60, ('{VISITOR}', 0)); s.settimeout(60); print(s.recv(99))"
    )
    return attacker.run(sys.executable, "-c", code).stdout


def in_the_table(address: str) -> bool:
    command = ["nft", "get", "element", "inet", "sentryfw", "block4", f"{{ {address} }}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def allowed(machine: Machine, *prefix: str) -> list[str]:
    """Return the names of the attempts that succeed."""
    words = ("/usr/bin/python3", "-I", "-c", TRY, json.dumps(ATTEMPTS))
    found: list[str] = json.loads(machine.said(*prefix, *words).splitlines()[-1])  # behind nft's
    return found


def denials() -> list[str]:
    return [line for line in kernel_log().splitlines() if 'apparmor="DENIED"' in line]


def kernel_log() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    print(f"{time.monotonic():.0f} s: until {what}", flush=True)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.5)
    raise SystemExit(f"not within {PATIENCE_S:g} s: {what}\n{kernel_log()[-3000:]}")


if __name__ == "__main__":
    try:
        main()
    finally:
        print(ENDED, flush=True)
