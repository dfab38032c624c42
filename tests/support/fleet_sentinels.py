"""Two redis-servers of a hub, and two Redis Sentinels that name the one in charge."""

import shutil
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Final

from sentryfw.setup.fleet.authority import issue
from sentryfw.setup.fleet.hub_files import today
from sentryfw.tools.drill.namespace import Namespace
from support.fleet_lab import HUB, PORT, Firewall, RealHub
from support.waiting import wait_for

SECOND: Final = "10.77.1.2"
"""The second server: what the hub reaches first has this address."""
SENTINEL_PORT: Final = 26380
SYNCHRONOUS: Final = "MASTER <-> REPLICA sync: Finished with success"
SECRET: Final = "replicas"  # noqa: S105 - of servers in a namespace
USERS: Final = f"""\
user replica on >{SECRET} -@all +psync +replconf +ping
user sentinel on >{SECRET} allchannels -@all +multi +exec +slaveof +replicaof +ping +subscribe \
+publish +config|rewrite +role +info +client|setname +client|kill +script|kill
"""
CLIENT: Final = """\
tls-replication yes
tls-client-cert-file {files}/replica.pem
tls-client-key-file {files}/replica.key
"""
REPLICATED: Final = f"""\
repl-diskless-sync-delay 0
masteruser replica
masterauth {SECRET}
"""
WATCHED: Final = f"""\
port 0
tls-port {SENTINEL_PORT}
protected-mode no
tls-cert-file {{files}}/hub.pem
tls-key-file {{files}}/hub.key
tls-ca-cert-file {{files}}/ca.pem
dir {{home}}
sentinel monitor sentryfw {HUB} {PORT} 1
sentinel auth-user sentryfw sentinel
sentinel auth-pass sentryfw {SECRET}
sentinel down-after-milliseconds sentryfw 1000
sentinel failover-timeout sentryfw 6000
"""


class SentinelPair:
    """A second server that follows the hub, and a Sentinel beside each."""

    def __init__(self, hub: RealHub) -> None:
        """The hub is not started yet; nothing else has reached it."""
        self._hub = hub
        self.namespace = Namespace()
        files = hub.files.directory
        self._client = CLIENT.format(files=files)
        # The hub's own certificate is that of a server: as clients these need another one.
        replica = issue(hub.files._authority(today()), "replica", today())
        (files / "replica.pem").write_text(replica.certificate)
        (files / "replica.key").write_text(replica.key)
        settings = REPLICATED + self._client
        for name, text in (("users.acl", USERS), ("redis.conf", settings)):
            with (files / name).open("a") as file:
                file.write(text)
        gateway = hub.reach(self.namespace)
        self.namespace.ip("route", "add", "10.77.0.0/16", "via", gateway)
        hub.namespace.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        self._processes: list[Popen[str]] = []

    def start(self) -> None:
        """Start all but the hub itself, and wait until the second server follows it."""
        home = self._hub.home / "second"
        (home / "data").mkdir(parents=True)
        text = (self._hub.files.directory / "redis.conf").read_text()
        config = home / "redis.conf"
        config.write_text(f"{text}dir {home / 'data'}\nreplicaof {HUB} {PORT}\n")
        self._run(self.namespace, home, config)
        for number, where in enumerate((self._hub.namespace, self.namespace)):
            place = self._hub.home / f"sentinel{number}"
            place.mkdir()
            own = place / "sentinel.conf"
            text = WATCHED.format(files=self._hub.files.directory, home=place)
            own.write_text(self._client + text)
            self._run(where, place, own, "--sentinel")
        wait_for(lambda: SYNCHRONOUS in (home / "log").read_text(), "it has what the hub has", 30)
        wait_for(lambda: self._says(1, "+slave slave"), "a Sentinel knows the second server", 30)
        wait_for(lambda: self._says(1, "+sentinel sentinel"), "and the other Sentinel", 30)

    def use(self, firewall: Firewall) -> None:
        """Have a firewall's link ask the Sentinels."""
        urls = ", ".join(f'"rediss://{host}:{SENTINEL_PORT}"' for host in (HUB, SECOND))
        later = firewall.box.config.parent / "conf.d" / "sentinels.toml"
        later.write_text(f'[fleet.hub]\nurl = ""\nsentinels = [{urls}]\n')
        firewall.box.namespace.ip("route", "add", SECOND, "via", firewall.gateway)
        firewall.kill("link")
        firewall.start_link()

    def has_switched(self) -> bool:
        """Return whether the Sentinels have put the second server in charge."""
        return self._says(1, f"+switch-master sentryfw {HUB} {PORT} {SECOND} {PORT}")

    def has_followed(self) -> bool:
        """Return whether the hub follows the second server since."""
        return SYNCHRONOUS in (self._hub.home / "hub.log").read_text()

    def close(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.namespace.close()

    def _run(self, where: Namespace, home: Path, *words: str | Path) -> None:
        command: list[str | Path] = [shutil.which("redis-server") or "redis-server", *words]
        command += ["--logfile", home / "log"]
        self._processes.append(where.popen(command, stdout=DEVNULL, stderr=DEVNULL))

    def _says(self, number: int, text: str) -> bool:
        log = self._hub.home / f"sentinel{number}" / "log"
        return log.exists() and text in log.read_text()
