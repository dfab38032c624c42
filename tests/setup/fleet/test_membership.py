"""join and leave: the files, and what an operator chose before."""

from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.errors import ConfigError, SentryError, UsageError
from sentryfw.setup.fleet.authority import Credential
from sentryfw.setup.fleet.invitation import Access, Invitation
from sentryfw.setup.fleet.membership import Membership

KEYS = {"fw1": "11" * 32, "fw3": "33" * 32}
ACCESS = Access("fw2", "rediss://192.0.2.1:6380", "CA\n", Credential("C\n", "K\n"), "secret")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "sentryfw.toml"
    made.write_text("")
    return made


def test_joining_pins_the_keys_and_keeps_the_secrets_closed(path: Path) -> None:
    membership = Membership(path)
    fleet = membership.join(Invitation(KEYS, ACCESS), None)
    assert fleet.name == "fw2"
    assert {name: (one.key, one.trust) for name, one in fleet.members.items()} == {
        "fw1": (KEYS["fw1"], "weigh"), "fw3": (KEYS["fw3"], "weigh"),
    }  # fmt: skip
    hub = fleet.hub
    assert hub.url == ACCESS.url
    texts = [
        one.read_text() for one in (hub.ca, hub.certificate, hub.key, hub.password_file) if one
    ]
    assert texts == ["CA\n", "C\n", "K\n", "secret\n"]
    modes = {one.stat().st_mode & 0o777 for one in membership.access.iterdir()}
    assert modes == {0o640}
    assert "secret" not in membership.file.read_text()


def test_what_the_operator_chose_for_a_member_stays(path: Path) -> None:
    membership = Membership(path)
    membership.join(Invitation(KEYS, ACCESS), "full")
    path.write_text("[fleet.members.fw1]\nmax_time = '1h'\n")
    fleet = membership.join(Invitation({"fw1": "aa" * 32, "fw4": "44" * 32}, None), None)
    assert (fleet.members["fw1"].trust, fleet.members["fw1"].max_time) == ("full", 3600.0)
    assert fleet.members["fw1"].key == "aa" * 32
    assert fleet.members["fw4"].trust == "weigh"
    assert fleet.hub.url == ACCESS.url, "an invitation without access keeps the one that is there"


@pytest.mark.parametrize(
    ("settings", "invitation", "problem"),
    [
        ('[fleet]\nname = "fw9"\n', Invitation(KEYS, ACCESS), "this firewall is fw9"),
        ("", Invitation(KEYS, None), "adds members to a firewall that is one already"),
    ],
)
def test_an_invitation_for_another_is_refused(
    path: Path, settings: str, invitation: Invitation, problem: str
) -> None:
    path.write_text(settings)
    with pytest.raises(UsageError, match=problem):
        Membership(path).join(invitation, None)
    assert not Membership(path).file.exists()


def test_a_fault_in_the_result_restores_the_old_file(path: Path) -> None:
    membership = Membership(path)
    with pytest.raises(ConfigError):
        membership.join(Invitation({"fw2": "22" * 32}, ACCESS), None)
    assert not membership.file.exists()
    membership.join(Invitation(KEYS, ACCESS), None)
    before = membership.file.read_text()
    with pytest.raises(ConfigError):
        membership.join(Invitation({"fw2": "22" * 32}, None), None)
    assert membership.file.read_text() == before


def test_a_file_of_the_operator_is_neither_replaced_nor_removed(path: Path) -> None:
    membership = Membership(path)
    membership.file.parent.mkdir()
    membership.file.write_text("# mine\n")
    with pytest.raises(SentryError, match="move what it has"):
        membership.join(Invitation(KEYS, ACCESS), None)
    with pytest.raises(SentryError, match="remove it"):
        membership.leave()
    assert membership.file.read_text() == "# mine\n"


def test_leaving_undoes_joining(path: Path) -> None:
    membership = Membership(path)
    membership.join(Invitation(KEYS, ACCESS), None)
    assert membership.leave() == [membership.file, membership.access]
    assert config.load(path).fleet == config.load(path).fleet.__class__()
    assert not membership.access.exists()
    assert membership.leave() == []


def test_a_directory_that_is_a_link_is_not_emptied(path: Path, tmp_path: Path) -> None:
    membership = Membership(path)
    (tmp_path / "other").mkdir()
    membership.access.symlink_to(tmp_path / "other")
    membership.leave()
    assert (tmp_path / "other").is_dir()
