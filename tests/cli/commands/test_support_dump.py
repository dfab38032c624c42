"""support-dump: it holds what a helper needs, and never a secret; on request no address."""

import json
import re
from pathlib import Path

import pytest

from sentryfw.cli.commands import support_dump
from support.box import GATEWAY, OWN, Box

pytestmark = pytest.mark.netns

SECRETS = ("s3cr3t-word", "hunter22", "banner-of-ours")
SCANNER, SIX = "203.0.113.7", "2001:db8:7:7::/64"
PARTS = ("versions", "configuration", "status", "doctor", "ruleset", "ledger", "events")


@pytest.fixture
def host(box: Box) -> Box:
    """A host with secrets, personal names, and addresses everywhere."""
    credentials = box.home / "mail"
    credentials.write_text('user = "mailer-user"\npassword = "hunter22"\n')
    credentials.chmod(0o600)
    box.configure(
        '[respond.command]\nargv = ["/bin/true", "--key", "s3cr3t-word", "{ip}"]\n'
        f'[respond.mail]\nto = ["admin@example.org"]\nhost = "mx.example.org"\n'
        'security = "tls"\n'
        f'credentials = "{credentials}"\n[[respond.webhook]]\n'
        'url = "https://hooks.example.org/services/w3bhook-path"\n'
        f'[decoy]\nbanner = "{SECRETS[2]}"\n'
    )
    assert box.sentryfw("install", "--no-service").returncode == 0
    for address in (SCANNER, SIX):
        assert box.sentryfw("block", address).returncode == 0
    events = box.settings.paths.events
    events.parent.mkdir()
    lines = [
        {"event_type": "alert", "src_ip": SCANNER,
         "sentryfw": {"id": "00064ab0c1d2e3f-1a2b3c4d", "sample": [f"{OWN} tcp/22"]}},
        {"sentryfw": {"event": "decoy", "address": SCANNER, "payload": "USER root hunter22"}},
        {"sentryfw": {"event": "reaction", "reaction": "command", "detail": "said s3cr3t-word"}},
        {"sentryfw": {"event": "host", "address": SCANNER, "host": "203-0-113-7.isp.example"}},
    ]  # fmt: skip
    events.write_text('half a line"}\n' + "".join(json.dumps(line) + "\n" for line in lines))
    return box


def test_it_has_every_part_and_no_secret(host: Box) -> None:
    path = host.home / "dump.txt"
    done = host.sentryfw("support-dump", path)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    found = dict(re.findall(r"^=== (\w+)\n(.*?)(?=\n=== |\Z)", text, re.DOTALL | re.MULTILINE))
    assert tuple(found) == PARTS
    assert "kernel\tLinux" in found["versions"]
    assert '"trigger": 3' in found["configuration"]
    assert '"/bin/true"' in found["configuration"]
    assert '"installed": true' in found["status"]
    assert "table inet sentryfw" in found["ruleset"]
    assert "chain divert_input" in found["ruleset"]
    assert "ledger.db\t" in found["ledger"]
    assert SCANNER in found["events"]
    for secret in (*SECRETS[:2], "mailer-user"):
        assert secret not in text


def test_redacted_it_has_neither_addresses_nor_names(host: Box) -> None:
    done = host.sentryfw("support-dump", "--redact", "-")
    assert done.returncode == 0, done.stderr
    for text in (*SECRETS, SCANNER, OWN, GATEWAY, "2001:db8:7", "admin@", "example.org", "isp.ex",
                 "203-0-113", "1a2b3c4d"):  # fmt: skip
        assert text not in done.stdout
    assert '"src_ip": "<ip4-' in done.stdout
    same = re.findall(r'"(?:src_ip|address)": "(<ip4-\d+>)"', done.stdout)
    assert len(same) == 3
    assert len(set(same)) == 1


def test_a_file_that_is_there_is_not_overwritten(host: Box) -> None:
    path, other = host.home / "dump.txt", host.home / "other"
    path.symlink_to(other)
    done = host.sentryfw("support-dump", path)
    assert done.returncode == 1
    assert "File exists" in done.stderr
    assert not other.exists()


def test_a_wrong_configuration_is_reported_without_its_values(box: Box) -> None:
    box.configure('[respond.mail]\npassword = "hunter22"\n[detect]\ntrigger = "hunter22"')
    done = box.sentryfw("support-dump", "-")
    assert done.returncode == 0, done.stderr
    assert (
        "wrong, so the defaults stand below:\nrespond.mail.password\ndetect.trigger"
        in (done.stdout)
        or "detect.trigger\nrespond.mail.password" in done.stdout
    )
    assert "hunter22" not in done.stdout


def test_who_may_not_look_gets_what_there_is(box: Box) -> None:
    done = box.sentryfw("support-dump", "-", as_root=False)
    assert done.returncode == 0, done.stderr
    assert "kernel\tLinux" in done.stdout
    assert "not available: the daemon is not running" in done.stdout


def test_each_part_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(support_dump, "MAX_PART_LENGTH", 100)
    assert support_dump._part(lambda: "x" * 1000) == "x" * 100 + "\n... cut: 900 characters more"


def test_of_a_huge_event_file_only_the_end_is_read(host: Box) -> None:
    with host.settings.paths.events.open("a") as file:
        for number in range(20_000):
            file.write(json.dumps({"number": number, "fill": "x" * 100}) + "\n")
    found = list(support_dump._events(host.settings, hide=False))
    assert len(found) == support_dump.MAX_EVENTS
    assert json.loads(found[-1])["number"] == 19_999
