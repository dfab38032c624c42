"""Remarks on valid configurations that do not do what their author meant."""

import socket
from pathlib import Path

import pytest

from sentryfw.config import parse
from sentryfw.netlink.sock_diag import TCP, Receiver
from sentryfw.query import review as module
from sentryfw.query.review import ConfigRemark, review
from sentryfw.respond.mail import read_credentials
from support.fake_host import FakeHost


def _review(text: str) -> list[ConfigRemark]:
    return review(parse(text.encode(), "test.toml"), read_credentials)


def _texts(text: str) -> list[str]:
    return list(map(str, _review(text)))


@pytest.fixture(autouse=True)
def _no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "receivers", list)


def test_the_defaults_have_no_remark() -> None:
    assert _review("") == []


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ('[never_block]\naddresses = ["::/0"]', "never_block.addresses: ::/0 is every IPv6"),
        ('[watch]\nmode = "traps"', 'watch.mode: "traps" without trap_tcp'),
        ('[detect]\nslow_window = "1m"', "detect.slow_window: is shorter than detect.window"),
        ('[inside]\nwindow = "2d"', "inside.slow_window: is shorter than inside.window"),
        ("[detect]\ntrigger = 9", "detect.slow_trigger: is less than detect.trigger"),
        ('[watch]\ninterfaces = ["nix0"]', "watch.interfaces: nix0: no such interface"),
        ('[never_block]\ninterfaces = ["nix0"]', "never_block.interfaces: nix0: no such"),
        ("[decoy]\ntcp = [23]\n[watch]\nlisted_tcp = ['20-30']", "decoy.tcp: port 23: watch.list"),
        ("[decoy]\nudp = ['5-6']\n[watch]\nlisted_udp = [5, 6]", "decoy.udp: ports 5, 6: watch"),
        ('[respond.mail]\nto = ["a@b.example"]\nhost = "mx.example"', "respond.mail.credentials: "),
        ('[respond.mail]\ncredentials = "/nowhere/x"', "respond.mail.credentials: /nowhere/x: No"),
        ('[respond.mail]\nca = "/nowhere/x"\nsecurity = "tls"', "respond.mail.ca: /nowhere/x: no"),
        ('[respond.syslog]\nca = "/nowhere/x"\ntransport = "tls"', "respond.syslog.ca: /nowhere/x"),
        ('[respond.command]\nargv = ["/nowhere/x"]', "respond.command.argv: /nowhere/x: no such"),
        (
            '[[respond.webhook]]\nurl = "https://h.example/"\ncredentials = "/nowhere/x"',
            "respond.webhook.0.credentials: /nowhere/x: no such file",
        ),
        ('[decoy]\nhold = "10m"', "decoy.hold: has no effect: there is no decoy in decoy.tcp"),
        ('[metrics]\ntextfile = "/nowhere/x.prom"', "metrics.textfile: /nowhere: no such"),
    ],
)  # fmt: skip
def test_a_warning_names_the_key_and_the_reason(text: str, remark: str) -> None:
    [found] = _review(text)
    assert str(found).startswith(remark)
    assert not found.is_fault


@pytest.mark.parametrize(
    "text",
    [
        '[never_block]\naddresses = ["10.0.0.0/8"]',
        '[watch]\nmode = "traps"\ntrap_tcp = [1]',
        '[watch]\nmode = "traps"\n[decoy]\ntcp = [1]',
        '[detect]\nslow_window = "5m"',
        '[watch]\ninterfaces = ["lo", "l*"]',
        "[decoy]\ntcp = [23]\n[watch]\nlisted_udp = [23]\nlisted_tcp = [24]",
        '[respond.mail]\nto = ["a@b.example"]',
        '[respond.mail]\nto = ["a@b.example"]\nhost = "::1"',
        '[respond.command]\nargv = ["/bin/sh"]',
        '[metrics]\ntextfile = "/tmp/x.prom"',
    ],
)
def test_what_works_has_no_remark(text: str) -> None:
    assert _texts(text) == []


def test_a_list_that_is_missing_is_a_fault_and_one_that_is_partly_read_a_warning(
    tmp_path: Path,
) -> None:
    listed = tmp_path / "list"
    listed.write_text("192.0.2.1\nmicrosoft.example\n" + "x\n" * 20)
    missing, *rest = _review(
        f'[never_block]\nfiles = ["{tmp_path}/nowhere", "{listed}", "{tmp_path}"]'
    )
    assert missing.is_fault
    assert str(missing).endswith("/nowhere: No such file or directory: the daemon does not start")
    assert str(rest[0]).startswith(f"never_block.files: {listed}:2: 'microsoft.example' is neither")
    assert str(rest[module.MAX_LINES]).endswith("11 more lines with a fault")
    assert rest[-1].is_fault  # a directory


def test_a_decoy_on_a_served_port_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(address: str, port: int) -> Receiver:
        packed = socket.inet_aton(address)
        return Receiver(TCP, packed, port, both=False, interface=0, mark=0, cookie=b"")

    found = [at("192.0.2.1", 22), at("127.0.0.1", 23), at("192.0.2.1", 5278)]
    monkeypatch.setattr(module, "receivers", lambda: found)
    assert _texts('[decoy]\ntcp = ["22-25"]') == [
        "decoy.tcp: port 22: a service has the same, so no decoy answers there"
    ]
    assert _texts("[decoy]\ntcp = [23]") == []
    assert _texts("[decoy]\ntcp = [5278]") == []  # the decoys' own listener


def test_check_prints_warnings_and_ends_in_0_and_strictly_in_78(bare_host: FakeHost) -> None:
    bare_host.configure('[detect]\nslow_window = "1m"\n')
    done = bare_host.sentryfw("check")
    assert done.returncode == 0
    assert done.stdout == f"{bare_host.config}: ok, 1 warning\n"
    assert done.stderr.startswith(f"sentryfw: warning: {bare_host.config}: detect.slow_window: is")
    assert bare_host.sentryfw("check", "--strict").returncode == 78


def test_check_reads_the_file_that_it_is_given(bare_host: FakeHost, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[never_block]\nfiles = ["/nowhere/x"]\n')
    done = bare_host.sentryfw("check", str(other))
    assert done.returncode == 78
    assert done.stdout == f"{other}: 1 fault\n"
    assert done.stderr == (
        f"sentryfw: {other}: never_block.files: /nowhere/x: No such file or directory:"
        " the daemon does not start\n"
    )
    assert bare_host.sentryfw("check").returncode == 0
    missing = bare_host.sentryfw("check", str(tmp_path / "nowhere.toml"))
    assert missing.returncode == 78
    assert missing.stderr.endswith("nowhere.toml: no such file\n")


def test_the_inside_is_shown_as_the_zone_that_it_is() -> None:
    hint, missing = _review('[watch]\ninside = ["nix*"]\n[inside]\ntrigger = 9')
    assert str(hint) == (
        'watch.inside: is a zone; another way to write it: [[zone]] name = "inside",'
        ' interfaces = ["nix*"], inside = true, mode = "observe", trigger = 9, window = "5m",'
        ' slow_trigger = 60, slow_window = "1d"'
    )
    assert str(missing) == "watch.inside: nix*: no such interface at present"


def test_a_zone_is_checked_as_the_default_one_is() -> None:
    zone = '[[zone]]\nname = "guest"\ninterfaces = ["nix*"]\n'
    [missing] = _review(zone)
    assert str(missing) == "zone guest: nix*: no such interface at present"
    found = [str(remark) for remark in _review(f'{zone}slow_window = "1m"\n')]
    assert found[0].startswith("zone guest.slow_window: is shorter than zone guest.window")
    forward = [
        str(remark) for remark in _review(f'[watch]\nforward = true\ninterfaces = ["lo"]\n{zone}')
    ]
    assert forward[0].startswith("zone guest: with watch.forward, what its hosts open through")
