"""The two articles on PortSentry 1.1, walked through with SentryFW in its place.

The steps quote the promises of the articles; each step is an action of their reader, or a check.
The first files are those of Debian's package. `pytest -s` prints the steps.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sentryfw.tools.drill.namespace import Namespace
from support.lab import ATTACKER, BYSTANDER, LISTED, SENTRYFWD, VICTIM, Lab, Sentry
from support.portsentry import elsewhere
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap, pytest.mark.peers]

MakeDaemon = Callable[[str], Sentry]
SCANNER: Final = ATTACKER[4]
SERVICES: Final = (9, 22, 33, 50, 80, 99)
"""Listed ports below 100: two that nmap asks early, because services are often there, and four
that it asks as they come."""
HISTORY: Final = re.compile(
    r"\d{10} - \d\d/\d\d/\d{4} \d\d:\d\d:\d\d "
    rf"Host: {SCANNER}/{SCANNER} Port: (\d+) TCP Blocked"
)
"""`%ld - MM/DD/YYYY HH:MM:SS Host: RESOLVED/IP Port: N TCP Blocked`."""


class Administrator:
    """An administrator who migrates: a copy of Debian's files, and the commands to type."""

    def __init__(self, lab: Lab, make_daemon: MakeDaemon, root: Path, home: Path) -> None:
        shutil.copytree(root, home / "root")
        self._lab = lab
        self._make_daemon = make_daemon
        self._etc = home / "root/etc/portsentry"
        self._home = home
        self.toml = home / "sentryfw.toml"
        self.deny = home / "hosts.deny"
        self.history = home / "var/portsentry.history"

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace each text once, as with an editor."""
        file = self._etc / name
        text = file.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{file}: {old!r}"
            text = text.replace(old, new)
        file.write_text(text)

    def edit_as_the_articles_do(self) -> None:
        """Switch blocking on, and ignore no address, not even localhost."""
        tell('vi portsentry.conf: BLOCK_TCP="1", BLOCK_UDP="1"; KILL_HOSTS_DENY as it is shipped')
        self.edit(
            "portsentry.conf",
            ('BLOCK_TCP="0"', 'BLOCK_TCP="1"'),
            ('BLOCK_UDP="0"', 'BLOCK_UDP="1"'),
        )
        self.edit("portsentry.ignore.static", ("\n127.0.0.1/32\n", "\n"), ("\n0.0.0.0\n", "\n"))

    def choose_modes(self, tcp: str, udp: str) -> None:
        """Write /etc/default/portsentry."""
        tell(f'vi /etc/default/portsentry: TCP_MODE="{tcp}", UDP_MODE="{udp}"')
        default = self._etc.parent / "default/portsentry"
        default.write_text(f'TCP_MODE="{tcp}"\nUDP_MODE="{udp}"\n')

    def type(self, *words: str | Path) -> str:
        """Run a command of SentryFW; return its output."""
        return self._type(self.toml, *words)

    def import_it(self) -> str:
        """Return the configuration that import-portsentry wrote, after its check."""
        said = self.type("import-portsentry", self._etc, "--write")
        assert f"wrote {self.toml}" in said
        assert self.type("check") == f"{self.toml}: ok\n"
        return self.toml.read_text()

    def start(self) -> Sentry:
        """Return the daemon with this configuration, after changing only the paths in it.

        The machine that runs the test has files of its own in those places.
        """
        written = elsewhere(self.toml.read_text(), self._home)
        self.history.parent.mkdir()
        self.daemon = self._make_daemon(
            written.replace("/var/lib/portsentry/", f"{self.history.parent}/")
        )
        self._type(self.daemon.config, "check")
        return self.daemon.start()

    def unblock(self, address: str) -> None:
        self._type(self.daemon.config, "unblock", address)

    def listing(self) -> str:
        return self._type(self.daemon.config, "list")

    def denied(self) -> list[str]:
        """Return the lines of hosts.deny, without comments."""
        lines = self.deny.read_text().splitlines() if self.deny.exists() else []
        return [line for line in lines if not line.startswith("#")]

    def routes(self) -> str:
        return self._lab.victim.ip("route", "show", "type", "blackhole").strip()

    def _type(self, config: Path, *words: str | Path) -> str:
        tell(f"$ sentryfw {' '.join(map(str, words))}")
        done = self._lab.victim.run(SENTRYFWD.with_name("sentryfw"), "-c", config, *words)
        assert done.returncode == 0, done.stderr
        show(done.stdout + done.stderr)
        return done.stdout + done.stderr


class Scan(NamedTuple):
    """The report of one nmap scan."""

    asked: list[int]
    """Probed ports, in the order of their first packet."""
    open: set[int]
    """Ports that nmap reports as open."""


def step(said: str) -> None:
    print(f"\n== {said}")


def tell(said: str) -> None:
    print(f"   {said}")


def show(output: str) -> None:
    for line in output.splitlines():
        tell(f"| {line}")


def scan(host: Namespace, *options: str) -> Scan:
    """Run nmap -p 1-100 against the victim."""
    words = ["nmap", "-n", "-Pn", "-p", "1-100", *options, VICTIM[4]]
    done = host.run(*words, "--packet-trace", timeout=120)
    assert done.returncode == 0, done.stderr
    sent = re.findall(rf"(?:SENT.*TCP .* > |CONN .*TCP .* > ){VICTIM[4]}:(\d+)", done.stdout)
    asked = dict.fromkeys(map(int, sent))
    found = {int(port) for port in re.findall(r"^(\d+)/tcp +open ", done.stdout, re.MULTILINE)}
    tell(f"$ {' '.join(words)}")
    tell(f"asked {len(asked)} ports, first {list(asked)[:12]}; open: {sorted(found) or 'none'}")
    return Scan(list(asked), found)


def telnet(lab: Lab, source: str, port: int = LISTED) -> bool:
    """Return whether a connection from there is answered."""
    connected = lab.answers(source, port)
    tell(f"telnet {VICTIM[4]} {port} from {source}: {'connected' if connected else 'nothing'}")
    return connected


@pytest.fixture
def administrator(
    lab: Lab, make_daemon: MakeDaemon, debian_root: Path, tmp_path: Path
) -> Administrator:
    return Administrator(lab, make_daemon, debian_root, tmp_path)


def test_the_first_article(lab: Lab, administrator: Administrator) -> None:
    """Chosen TCP and UDP ports are watched, scanned, blocked by hosts.deny, and opened again."""
    lab.listen()

    step("1. Debian's portsentry, edited as the article does")
    administrator.edit_as_the_articles_do()

    step("2. It becomes SentryFW's configuration")
    written = administrator.import_it()
    assert 'line = "ALL: {address} : DENY"' in written
    assert '\ntcp = "block"\n' in written
    assert '\nudp = "block"\n' in written
    assert "[never_block]" not in written
    show("\n".join(line for line in written.splitlines() if line and not line.startswith("#")))

    step("3. Started: the article's `portsentry -tcp; portsentry -udp`, `now active and listening`")
    daemon = administrator.start()
    ready = wait_for(lambda: re.search(r".*ready: divert .*", daemon.log()), "the start is told")
    show(ready[0])
    assert telnet(lab, SCANNER)
    assert telnet(lab, BYSTANDER[4])

    step("4. The scan, by a user of the attacker's host: nmap connects")
    scan(lab.attacker, "--unprivileged", "-e", "veth0")

    step("5. The alert: one event, one line as PortSentry 1.x wrote it")
    event = daemon.alert(SCANNER, "blocked")["sentryfw"]
    [line] = wait_for(lambda: _lines(administrator.history), "a line of history")
    show(line)
    matched = HISTORY.fullmatch(line)
    assert matched, line
    assert event["sample"][-1].endswith(f"tcp/{matched[1]}")
    assert int(matched[1]) in {1, 11, 15, 79}, "TCP_PORTS below 100"

    step("6. The scanner's entry in hosts.deny, and its route, each once")
    wait_for(administrator.denied, "the entry")
    wait_for(administrator.routes, "the route")
    show(f"{administrator.deny.read_text()}\n{administrator.routes()}")
    assert administrator.denied() == [f"ALL: {SCANNER} : DENY"]
    assert administrator.routes().split()[:2] == ["blackhole", SCANNER]
    assert SCANNER in administrator.listing()

    step("7. telnet from the scanner: no answer any more; from elsewhere: as before")
    assert not telnet(lab, SCANNER)
    assert telnet(lab, BYSTANDER[4])

    step("8. Access again: the article edits hosts.deny, deletes the route, and kills PortSentry")
    administrator.unblock(SCANNER)
    wait_for(lambda: administrator.denied() == [], "no entry")
    wait_for(lambda: administrator.routes() == "", "no route")
    assert telnet(lab, SCANNER)
    assert daemon.status()["pid"] == daemon.process.pid

    step("9. Who scans again is blocked again: one entry, not two")
    scan(lab.attacker, "--unprivileged", "-e", "veth0")
    wait_for(lambda: len(_lines(administrator.history)) == 2, "a second line of history")
    wait_for(administrator.denied, "the entry")
    assert administrator.denied() == [f"ALL: {SCANNER} : DENY"]


@pytest.mark.parametrize(
    ("trigger", "order"),
    [("0", ()), ("1", ()), ("0", ("-r",))],
    ids=["trigger 0", "trigger 1", "trigger 0, ports in order"],
)
def test_the_second_article(
    lab: Lab, administrator: Administrator, trigger: str, order: tuple[str, ...]
) -> None:
    """In advanced mode the scanner is blocked before it has the list of open ports.

    With trigger 1, "normal mode", the article's reader first loses the list to the scanner, and
    then the connections; here the list stays unknown.
    """
    for port in SERVICES:
        lab.listen(port)

    step("1. Without a defence nmap learns the list")
    assert scan(lab.attacker, *order).open == set(SERVICES)

    step(f"2. portsentry -atcp, SCAN_TRIGGER {trigger}, moved over and started")
    administrator.edit_as_the_articles_do()
    administrator.edit("portsentry.conf", ('SCAN_TRIGGER="0"', f'SCAN_TRIGGER="{trigger}"'))
    administrator.choose_modes("atcp", "audp")
    written = administrator.import_it()
    assert '\nmode = "unlisted"\n' in written
    assert "\ntrigger = 1\n" in written
    daemon = administrator.start()

    step("3. The same scan again")
    found = scan(lab.attacker, *order)
    daemon.alert(SCANNER, "blocked")
    unlisted = next(port for port in found.asked if port not in SERVICES)
    before = found.asked[: found.asked.index(unlisted)]
    tell(f"asked before its first unlisted port, {unlisted}: {before or 'nothing'}")
    assert found.open <= set(before), "nothing is learnt after that"
    assert found.open < set(SERVICES), "nor is the list"
    if order:
        assert found.open == set()
    assert set(found.asked) == set(range(1, 101)), "it did ask for all of them"

    step("4. Its later connections get no answer")
    for port in SERVICES:
        assert not telnet(lab, SCANNER, port)
        assert telnet(lab, BYSTANDER[4], port)
    [line] = wait_for(lambda: _lines(administrator.history), "a line of history")
    show(line)
    assert HISTORY.fullmatch(line)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
