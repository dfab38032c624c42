"""The section [respond]: off by default, and every fault with its key."""

from typing import Any

import pytest

from sentryfw.config import parse
from sentryfw.config.respond import Respond, parse_argv
from sentryfw.errors import ConfigError


def _faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text.encode(), "test.toml")
    return raised.value.faults


def test_every_reaction_is_off_until_it_is_configured() -> None:
    respond = Respond()
    assert respond.command.argv == ()
    assert not respond.hosts_deny.enabled
    assert not respond.route.enabled
    assert respond.log.to == respond.history.format == "off"
    assert respond.syslog.host is None
    assert respond.mail.to == ()
    assert not respond.dns.enabled


@pytest.mark.parametrize(
    ("legacy", "words"),
    [
        ("/bin/x $TARGET$ $PORT$ $MODE$", ["/bin/x", "{ip}", "{port}", "{mode}"]),
        ("/bin/x '$TARGET$ $PORT$'", ["/bin/x", "{ip} {port}"]),
        ('/bin/x "a b" c\\ d', ["/bin/x", "a b", "c d"]),
        ("/bin/x $TARGET$$TARGET$", ["/bin/x", "{ip}{ip}"]),
        ("/bin/x {a} $HOME `b` $(c)", None),
        ("/bin/x {a} $HOME `b`", ["/bin/x", "{{a}}", "$HOME", "`b`"]),
        ("", []),
    ],
)
def test_a_legacy_string_becomes_words(legacy: str, words: list[str] | None) -> None:
    if words is None:
        with pytest.raises(ValueError, match="needs a shell"):
            parse_argv(legacy)
    else:
        assert parse_argv(legacy) == words


@pytest.mark.parametrize(
    "legacy",
    [
        "/bin/x $TARGET$ | /bin/mail root", "/bin/x > /dev/null", "/bin/x 2>&1", "/bin/x; /bin/y",
        "/bin/x && /bin/y", "/bin/x &", "/bin/x < /dev/null", "(/bin/x)",
    ],
)  # fmt: skip
def test_a_command_that_needs_a_shell_is_refused(legacy: str) -> None:
    [fault] = _faults(f"[respond.command]\nargv = '{legacy}'")
    assert fault.startswith("respond.command.argv: ")
    assert "write a script" in fault


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ('[respond.command]\nargv = ["x"]', "respond.command.argv", "not an absolute path"),
        ('[respond.command]\nargv = ["/{ip}"]', "respond.command.argv", "no placeholders"),
        ('[respond.command]\nargv = ["/x", "{bad}"]', "respond.command.argv", "not a placeholder"),
        ('[respond.command]\ntimeout = "1h"', "respond.command.timeout", "must be 600 or less"),
        ('[respond.hosts_deny]\nline = "ALL: x"', "respond.hosts_deny.line", "{address}"),
        (
            '[respond.hosts_deny]\nline = "ALL: {address}\\nALL: ALL"',
            "respond.hosts_deny.line",
            "one line",
        ),
        ('[respond.hosts_deny]\nline = "# {address}"', "respond.hosts_deny.line", "no comment"),
        ('[respond.hosts_deny]\npath = "x"', "respond.hosts_deny.path", "not an absolute path"),
        ('[respond.syslog]\nhost = "a b"', "respond.syslog.host", "host name"),
        ('[respond.syslog]\nkey = "/k"', "respond.syslog", "go together"),
        ('[respond.syslog]\nca = "/k"', "respond.syslog", 'transport = "tls"'),
        ('[respond.mail]\nto = ["a"]', "respond.mail.to.0", "not a mail address"),
        ('[respond.mail]\nto = ["a@b\\r\\nBcc: c@d"]', "respond.mail.to.0", "not a mail address"),
        (
            '[respond.mail]\nhost = "mx.example"\ncredentials = "/c"',
            "respond.mail",
            "needs encryption",
        ),
        ('[respond.histroy]\nformat = "off"', "respond.histroy", "did you mean 'history'"),
        ('[block]\ntcp = "command"', "block.tcp", "needs respond.command.argv"),
        ('[block]\nudp = "drop"', "block.udp", "must be"),
    ],
)
def test_a_fault_is_named_with_its_key(text: str, key: str, reason: str) -> None:
    [fault] = _faults(text)
    assert fault.startswith(f"{key}: ")
    assert reason in fault


@pytest.mark.parametrize(
    ("section", "settings", "port"),
    [
        ("syslog", {}, 514),
        ("syslog", {"transport": "tls"}, 6514),
        ("syslog", {"transport": "tcp", "port": 601}, 601),
        ("mail", {}, 25),
        ("mail", {"security": "starttls"}, 587),
        ("mail", {"security": "tls"}, 465),
    ],
)
def test_ports_follow_the_transport(section: str, settings: dict[str, Any], port: int) -> None:
    assert getattr(Respond.model_validate({section: settings}), section).service == port


def test_portsentrys_token_is_accepted_in_the_hosts_deny_line() -> None:
    respond = Respond.model_validate({"hosts_deny": {"line": "ALL: $TARGET$ : DENY"}})
    assert respond.hosts_deny.line == "ALL: {address} : DENY"
