"""install and uninstall: what is made, what is kept, what is left."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sentryfw.config
from sentryfw.config.model import Config, Paths
from sentryfw.errors import Unsupported
from sentryfw.host import account, privileges
from sentryfw.netfilter import features, libnftables, packet_queue
from sentryfw.netfilter.features import Feature
from sentryfw.netfilter.libnftables import load_binding
from sentryfw.netfilter.schema import COMMENT
from sentryfw.record import event_file
from sentryfw.setup import install
from support.box import BIN, Box
from support.inprocess import hide_binding

pytestmark = pytest.mark.netns

SSH_PEER = "198.18.0.9"
SSH = {"SSH_CONNECTION": f"{SSH_PEER} 4711 198.18.0.1 22"}
OLDER = """
table inet sentryfw {
	comment "SentryFW schema 0"
	set block4 {
		type ipv4_addr
		flags timeout
		elements = { 203.0.113.7 timeout 2h expires 1h }
	}
	set block_net4 {
		type ipv4_addr
		flags interval, timeout
		elements = { 203.0.114.0/24 timeout 2h expires 1h }
	}
}
"""


def remove_features(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the kernel lack features."""
    probe = features.probe

    def without() -> list[Feature]:
        return [item._replace(present=item.present and item.name not in names) for item in probe()]

    monkeypatch.setattr(features, "probe", without)


# --- install


def test_install_loads_the_table_and_reports_how(box: Box) -> None:
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("installed table inet sentryfw; divert: ")
    assert f'comment "{COMMENT}"' in box.nft("list", "table", "inet", "sentryfw")


def test_install_leaves_other_tables_alone(box: Box) -> None:
    box.nft("add table inet other; add chain inet other c; add rule inet other c counter accept")
    before = box.ruleset()
    box.sentryfw("install", "--no-service")
    assert before in box.ruleset()
    box.sentryfw("uninstall")
    assert box.ruleset() == before


def test_install_again_keeps_blocks_and_partners(installed: Box) -> None:
    for address in ("203.0.113.7", "2001:db8::1", "203.0.114.0/24", "2001:db8:ffff::/48"):
        installed.sentryfw("block", address, "--timeout", "3h")
    installed.nft("add element inet sentryfw partner4 { 203.0.113.50 timeout 5h }")
    installed.nft("add element inet sentryfw partner6 { 2001:db8:1:2:: timeout 5h }")
    names = ("block4", "block6", "block_net4", "block_net6", "partner4", "partner6")
    before = {name: _timeouts(installed, name) for name in names}
    done = installed.sentryfw("install", "--no-service")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("updated table inet sentryfw; ")
    assert "blocks kept: 4" in done.stdout
    assert {name: _timeouts(installed, name) for name in names} == before
    assert all(before.values())


def _timeouts(box: Box, name: str) -> dict[str, int]:
    return {address: fields["timeout"] for address, fields in box.elements(name).items()}


def test_install_again_takes_the_configuration_of_now(installed: Box) -> None:
    installed.configure('[watch]\nlisted_tcp = [8443]\n[never_block]\naddresses = ["192.0.2.0/24"]')
    installed.sentryfw("install", "--no-service")
    assert "192.0.2.0/24" in installed.elements("never_block4")
    assert "8443" in installed.nft("list", "set", "inet", "sentryfw", "listed_tcp")
    installed.configure("")
    installed.sentryfw("install", "--no-service")
    assert "192.0.2.0/24" not in installed.elements("never_block4")
    assert "8443" not in installed.nft("list", "set", "inet", "sentryfw", "listed_tcp")


def test_install_three_times_is_install_once(installed: Box) -> None:
    once = installed.ruleset()
    for _ in range(2):
        installed.sentryfw("install", "--no-service")
    assert installed.ruleset() == once


def test_the_table_of_an_older_schema_hands_its_blocks_on(box: Box) -> None:
    older = box.home / "older.nft"
    older.write_text(OLDER)
    box.nft("-f", older)
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 0, done.stderr
    assert "blocks kept: 2" in done.stdout
    [single] = box.elements("block4").values()
    [network] = box.elements("block_net4").values()
    assert 3500 < single["expires"] <= 3600
    assert 3500 < network["expires"] <= 3600


def test_a_foreign_table_of_our_name_ends_in_1_and_stays(box: Box) -> None:
    box.nft("add table inet sentryfw; add chain inet sentryfw theirs")
    before = box.ruleset()
    for words in (
        ("install", "--no-service"), ("install", "--dry-run"), ("uninstall",),
        ("block", "203.0.113.7"), ("unblock", "--all"), ("list",),
    ):  # fmt: skip
        done = box.sentryfw(*words)
        assert done.returncode == 1
        assert "did not make" in done.stderr
        assert box.ruleset() == before


# --- install --dry-run


def test_dry_run_changes_nothing_and_prints_what_nft_takes(box: Box) -> None:
    files = box.files()
    done = box.sentryfw("install", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (box.ruleset(), box.files()) == ("", files)
    assert "It would add table inet sentryfw; no other table is changed." in done.stderr
    assert "Nothing was changed" in done.stderr
    script = box.home / "script.nft"
    script.write_text(done.stdout)
    box.nft("-c", "-f", script)
    box.nft("-f", script)
    assert f'comment "{COMMENT}"' in box.ruleset()


def test_dry_run_over_a_live_table_changes_nothing(installed: Box) -> None:
    installed.sentryfw("block", "203.0.113.7")
    before = installed.ruleset()
    done = installed.sentryfw("install", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert installed.ruleset() == before
    assert "It would replace table inet sentryfw in one transaction" in done.stderr
    script = installed.home / "script.nft"
    script.write_text(done.stdout)
    installed.nft("-f", script)
    assert list(installed.elements("block4")) == ["203.0.113.7"]


# --- over SSH


def test_install_over_ssh_never_blocks_the_peer_and_reports_it(box: Box) -> None:
    done = box.sentryfw("install", "--no-service", env=SSH)
    assert done.returncode == 0, done.stderr
    assert f"{SSH_PEER} is never blocked" in done.stdout
    assert SSH_PEER in box.elements("never_block4")


def test_the_ssh_peer_is_remembered_without_ssh(box: Box) -> None:
    box.sentryfw("install", "--no-service", env=SSH)
    box.sentryfw("install", "--no-service")
    assert SSH_PEER in box.elements("never_block4")
    done = box.sentryfw("block", SSH_PEER)
    assert done.returncode == 1
    assert "ssh peer" in done.stderr
    box.start_daemon()
    assert SSH_PEER in box.elements("never_block4")


def test_ssh_peers_false_protects_no_peer(box: Box) -> None:
    box.configure("[never_block]\nssh_peers = false")
    box.sentryfw("install", "--no-service", env=SSH)
    assert SSH_PEER not in box.elements("never_block4")


@pytest.mark.parametrize(
    ("connection", "element", "name"),
    [
        ("2001:db8::9 4711 2001:db8::1 22", "2001:db8::9", "never_block6"),
        ("::ffff:198.18.0.9 4711 ::ffff:198.18.0.1 22", SSH_PEER, "never_block4"),
    ],
    ids=["ipv6", "ipv4 mapped"],
)
def test_the_ssh_peer_of_an_ipv6_socket(box: Box, connection: str, element: str, name: str) -> None:
    box.sentryfw("install", "--no-service", env={"SSH_CONNECTION": connection})
    assert element in box.elements(name)


# --- the service


@pytest.fixture
def systemctl(box: Box) -> Path:
    """A systemctl that records its arguments; the path of the record."""
    box.systemd.mkdir()
    said = box.home / "systemctl.log"
    script = box.home / "bin" / "systemctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$*" >> {shlex.quote(str(said))}\n')
    script.chmod(0o755)
    return said


def with_systemctl(box: Box) -> dict[str, str]:
    return {"PATH": f"{box.home / 'bin'}:{os.environ['PATH']}"}


def test_install_sets_the_service_up_and_uninstall_takes_it_down(box: Box, systemctl: Path) -> None:
    assert box.sentryfw("install", env=with_systemctl(box)).returncode == 0
    lines = box.unit.read_text().splitlines()
    assert f"ExecStart={BIN / 'sentryfwd'} --config {box.config}" in lines
    told = ["daemon-reload", "enable sentryfw.service", "restart sentryfw.service"]
    assert systemctl.read_text().splitlines() == told
    assert box.sentryfw("uninstall", env=with_systemctl(box)).returncode == 0
    assert not box.unit.exists()
    told += ["disable --now sentryfw.service", "daemon-reload"]
    assert systemctl.read_text().splitlines() == told


@pytest.mark.usefixtures("systemctl")
def test_the_service_starts_a_program_that_is_there_however_it_was_installed(box: Box) -> None:
    program = "../../sentryfw/__main__.py"  # what sys.argv[0] is under `python -m sentryfw`
    box.sentryfw("install", env=with_systemctl(box), program=program)
    [line] = [ln for ln in box.unit.read_text().splitlines() if ln.startswith("ExecStart=")]
    assert Path(line.removeprefix("ExecStart=").split()[0]).is_file(), line


@pytest.mark.usefixtures("systemctl")
def test_the_service_can_write_to_the_directories_of_the_configuration(box: Box) -> None:
    box.sentryfw("install", env=with_systemctl(box))
    unit = box.unit.read_text()
    assert "ProtectSystem=strict" in unit
    [line] = [ln for ln in unit.splitlines() if ln.startswith("ReadWritePaths=")]
    paths = box.settings.paths
    for path in (paths.state, paths.runtime, paths.log):
        assert str(path) in line


def ship(box: Box) -> Path:
    """Move the unit that install wrote to where a package has it."""
    packaged = box.home / "vendor" / "systemd" / "system" / "sentryfw.service"
    packaged.parent.mkdir(parents=True)
    return box.unit.rename(packaged)


def test_the_unit_of_a_package_is_used_as_it_is(box: Box, systemctl: Path) -> None:
    box.sentryfw("install", env=with_systemctl(box))
    ship(box)
    systemctl.unlink()
    assert box.sentryfw("install", env=with_systemctl(box)).returncode == 0
    assert not box.unit.exists(), "it would hide the next version's"
    told = ["daemon-reload", "enable sentryfw.service", "restart sentryfw.service"]
    assert systemctl.read_text().splitlines() == told


@pytest.mark.usefixtures("systemctl")
def test_a_different_unit_of_a_package_is_overridden(box: Box) -> None:
    box.sentryfw("install", env=with_systemctl(box))
    written = box.unit.read_text()
    ship(box).write_text(written.replace("sentryfw.toml", "other.toml"))
    assert box.sentryfw("install", env=with_systemctl(box)).returncode == 0
    assert box.unit.read_text() == written


def test_uninstall_stops_the_service_of_a_package(box: Box, systemctl: Path) -> None:
    box.sentryfw("install", env=with_systemctl(box))
    packaged = ship(box)
    systemctl.unlink()
    assert box.sentryfw("uninstall", env=with_systemctl(box)).returncode == 0
    assert systemctl.read_text().splitlines()[0] == "disable --now sentryfw.service"
    assert packaged.exists(), "the package's to remove"


def test_a_failure_of_systemctl_is_reported(box: Box, systemctl: Path) -> None:
    script = box.home / "bin" / "systemctl"
    script.write_text("#!/bin/sh\necho no bus here >&2\nexit 1\n")
    done = box.sentryfw("install", env=with_systemctl(box))
    assert done.returncode == 1
    assert "no bus here" in done.stderr
    assert not systemctl.exists()


def private_program(box: Box) -> Path:
    """Install the program where root alone may go, as `pipx install` does."""
    folder = box.home / "private" / "bin"
    folder.mkdir(parents=True)
    for name in ("sentryfw", "sentryfwd"):
        shutil.copy(BIN / name, folder)
    folder.parent.chmod(0o700)
    return folder / "sentryfw"


@pytest.mark.parametrize("words", [(), ("--trial", "5m")], ids=["for good", "trial"])
def test_a_program_that_the_service_cannot_use_loads_no_table(
    box: Box, systemctl: Path, words: tuple[str, ...]
) -> None:
    program = private_program(box)
    done = box.sentryfw("install", *words, env=with_systemctl(box), program=str(program))
    assert done.returncode == 1
    assert f"who cannot use {program}" in done.stderr
    assert "pipx install --global" in done.stderr
    assert box.ruleset() == ""
    assert not box.unit.exists()
    assert not systemctl.exists()


def test_a_program_that_the_service_can_use_is_found_behind_its_link(
    box: Box, systemctl: Path
) -> None:
    program = private_program(box)
    program.parents[1].chmod(0o755)
    link = box.home / "links" / "sentryfw"
    link.parent.mkdir()
    link.symlink_to(program)
    done = box.sentryfw("install", env=with_systemctl(box), program=str(link))
    assert done.returncode == 0, done.stderr
    assert f"ExecStart={program.with_name('sentryfwd')} " in box.unit.read_text()
    assert systemctl.exists()


def test_no_service_leaves_systemd_alone(box: Box, systemctl: Path) -> None:
    box.sentryfw("install", "--no-service", env=with_systemctl(box))
    assert not box.unit.exists()
    assert not systemctl.exists()


# --- uninstall


def test_uninstall_leaves_no_table(installed: Box) -> None:
    installed.sentryfw("block", "203.0.113.7")
    done = installed.sentryfw("uninstall")
    assert (done.returncode, done.stdout) == (0, "removed table inet sentryfw\n")
    assert installed.ruleset() == ""
    assert installed.settings.paths.ledger.exists()


@pytest.mark.parametrize("words", [("uninstall",), ("uninstall", "--purge")], ids=" ".join)
def test_a_second_uninstall_reports_that_nothing_was_installed(
    box: Box, words: tuple[str, ...]
) -> None:
    box.install()
    assert "nothing was installed" not in box.sentryfw(*words).stdout
    done = box.sentryfw(*words)
    assert done.returncode == 0
    assert done.stdout == (
        "nothing was installed: there is no table inet sentryfw, no service, and no daemon\n"
    )


def test_a_purge_reports_directories_not_files(installed: Box) -> None:
    paths = installed.settings.paths
    paths.evidence.mkdir(exist_ok=True)
    for number in range(3000):
        (paths.evidence / f"{number}.pcapng").write_bytes(b"")
    lines = installed.sentryfw("uninstall", "--purge").stdout.splitlines()
    assert f"removed 3000 files or directories from {paths.evidence}" in lines
    assert len(lines) < 10
    assert not paths.evidence.exists()


def test_uninstall_names_some_of_many_routes(installed: Box) -> None:
    for number in range(20):
        installed.namespace.ip("route", "add", "blackhole", f"203.0.113.{number}", "proto", "83")
    lines = installed.sentryfw("uninstall").stdout.splitlines()
    assert len([line for line in lines if line.startswith("removed blackhole 203.0.113.")]) == 5
    assert "removed 15 more lines and routes" in lines
    assert installed.namespace.ip("route", "show", "proto", "83") == ""


def test_an_install_names_the_blocks_that_come_back(installed: Box) -> None:
    installed.sentryfw("block", "203.0.113.7", "203.0.113.8")
    assert "restores" not in installed.sentryfw("install", "--no-service").stdout
    assert installed.namespace.run("nft", "delete", "table", "inet", "sentryfw").returncode == 0
    done = installed.sentryfw("install", "--no-service")
    assert "blocks kept: 0\n" in done.stdout
    assert "blocks of before that the daemon restores when it starts: 2\n" in done.stdout


def test_uninstall_stops_the_daemon_first(box: Box) -> None:
    daemon = box.start_daemon()
    done = box.sentryfw("uninstall")
    assert done.returncode == 0, done.stderr
    assert daemon.wait(10) == 0
    assert box.ruleset() == ""
    assert box.sentryfw("status").returncode == 5


def test_purge_leaves_no_file_of_ours(box: Box) -> None:
    box.default_config.parent.mkdir()
    box.config.rename(box.default_config)
    box.config.symlink_to(box.default_config)
    box.start_daemon(box.default_config)
    box.run("block", "203.0.113.7")
    done = box.run("uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert box.files() == {"daemon.log", "sentryfw.toml"}
    assert (box.ruleset(), box.default_config.exists()) == ("", False)


def test_purge_keeps_files_of_others(installed: Box) -> None:
    notes = installed.settings.paths.state / "notes"
    notes.write_text("mine")
    assert installed.sentryfw("uninstall", "--purge").returncode == 0
    assert notes.read_text() == "mine"
    assert {path.name for path in notes.parent.iterdir()} == {"notes"}


def test_purge_with_another_configuration_keeps_the_default_one(installed: Box) -> None:
    installed.default_config.parent.mkdir()
    installed.configure("", installed.default_config)
    assert installed.sentryfw("uninstall", "--purge").returncode == 0
    assert installed.default_config.exists()


# --- what the system lacks


@pytest.mark.parametrize(
    ("missing", "options"),
    [
        pytest.param(
            ("queue statement", "xt NFQUEUE target"),
            ("CONFIG_NFT_QUEUE", "CONFIG_NFT_COMPAT", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE"),
            id="no way into the queue",
        ),
        pytest.param(("socket expression",), ("CONFIG_NFT_SOCKET",), id="socket"),
        pytest.param(("fib expression",), ("CONFIG_NFT_FIB_INET",), id="fib"),
        pytest.param(("ct expression",), ("CONFIG_NFT_CT",), id="ct"),
        pytest.param(("limit expression",), ("CONFIG_NFT_LIMIT",), id="limit"),
        pytest.param(("nftables inet tables",), ("CONFIG_NF_TABLES_INET",), id="inet"),
    ],
)
def test_install_on_a_kernel_that_lacks_something_ends_in_6_and_names_it(
    box: Box, missing: tuple[str, ...], options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_features(monkeypatch, *missing)
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 6
    assert [option for option in options if option not in done.stderr] == []
    assert box.ruleset() == ""


def feature(name: str, *, present: bool) -> Feature:
    return Feature(name, present, "CONFIG_X", "")


@pytest.mark.parametrize(
    ("queue", "target", "divert"),
    [(True, True, "queue"), (True, False, "queue"), (False, True, "xt-nfqueue")],
)
def test_the_statement_is_picked_before_the_target(
    monkeypatch: pytest.MonkeyPatch, *, queue: bool, target: bool, divert: str
) -> None:
    found = [
        feature("queue statement", present=queue),
        feature("xt NFQUEUE target", present=target),
        feature("socket expression", present=True),
    ]
    assert features.require(found) == divert
    found[2] = feature("socket expression", present=False)
    with pytest.raises(Unsupported, match="socket expression"):
        features.require(found)


def test_without_the_binding_it_ends_in_6_and_names_the_package(
    installed: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = installed.ruleset()
    hide_binding(monkeypatch)
    done = installed.sentryfw("install", "--no-service")
    assert done.returncode == 6
    assert "apt install python3-nftables" in done.stderr
    assert installed.ruleset() == before


def test_doctor_names_the_missing_binding(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_binding(monkeypatch)
    done = box.sentryfw("doctor")
    assert done.returncode == 6
    assert "libnftables\tfail\tthe Python binding" in done.stdout


def test_doctor_names_the_missing_library_of_the_queue(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_queue, "_missing", "libnetfilter_queue.so.1: no such file")
    done = box.sentryfw("doctor")
    assert done.returncode == 6
    assert "libnetfilter_queue\tfail\tlibnetfilter_queue does not load (" in done.stdout
    assert "apt install libnetfilter-queue1" in done.stdout


def test_without_the_library_of_the_queue_the_daemon_ends_in_6_and_names_it(box: Box) -> None:
    code = (
        'import sys; sys.modules["netfilterqueue"] = None\n'
        "from sentryfw.daemon.main import main; main()"
    )
    done = box.namespace.run(sys.executable, "-P", "-c", code, "--config", box.config)
    assert done.returncode == 6, done.stderr
    assert "apt install libnetfilter-queue1" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_library_of_the_queue_install_loads_no_table(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table without a daemon that can run would guard nothing."""
    monkeypatch.setattr(packet_queue, "_missing", "libnetfilter_queue.so.1: no such file")
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 6
    assert "apt install libnetfilter-queue1" in done.stderr
    assert box.ruleset() == ""


@pytest.mark.parametrize("missing", ["libnetfilter_queue", "libnftables", "the binding"])
def test_without_a_library_a_drill_ends_in_6_before_it_begins(
    box: Box, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "libnetfilter_queue":
        monkeypatch.setattr(packet_queue, "_missing", "libnetfilter_queue.so.1: no such file")
    elif missing == "libnftables":
        monkeypatch.setattr(libnftables, "LIBRARY", "libnone.so.1")
    else:
        hide_binding(monkeypatch)
    done = box.sentryfw("drill", "--forge")
    assert done.returncode == 6
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "apt install " in done.stderr


def test_without_libnftables_it_ends_in_6_without_a_word_of_the_binding(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libnftables, "LIBRARY", "libnone.so.1")
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 6
    assert done.stderr.startswith("sentryfw: libnone.so.1 does not load (")
    assert "apt install libnftables1" in done.stderr
    assert "binding" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_without_proc_the_daemon_ends_in_6_and_names_the_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(privileges, "STATUS", tmp_path / "status")
    with pytest.raises(Unsupported, match="mount -t proc"):
        privileges.require_net_admin()


def test_without_etc_protocols_it_names_the_package(box: Box) -> None:
    """A minimal Debian, or a container, without netbase."""
    hide = 'mount --make-rprivate / && mount --bind /dev/null /etc/protocols && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", hide, "sh")
    done = box.spawn("-c", box.config, "install", "--no-service", prefix=prefix)
    assert done.returncode == 6
    assert "apt install netbase" in done.stderr
    assert box.ruleset() == ""


def test_the_distributions_copy_is_found_by_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "nftables" / "__init__.py"
    copy.parent.mkdir()
    copy.write_text("here = True")
    monkeypatch.setattr(libnftables, "DISTRIBUTION_COPIES", (tmp_path / "no", str(copy)))
    monkeypatch.setattr(libnftables.importlib, "import_module", _raise_missing)
    monkeypatch.delitem(libnftables.sys.modules, "nftables", raising=False)
    assert load_binding().here is True
    # Not by monkeypatch, which would put this copy back at the end.
    del libnftables.sys.modules["nftables"]


def _raise_missing(name: str) -> None:
    raise ModuleNotFoundError(name)


def test_the_default_configuration_is_one_that_installs(box: Box) -> None:
    assert box.settings.model_copy(update={"paths": Config().paths}) == Config()
    assert box.sentryfw("install", "--no-service").returncode == 0


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A directory that every user may pass, which pytest's tmp_path is not."""
    home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


@pytest.mark.root
def test_purge_follows_no_link_of_the_daemons_user(
    open_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory of captures has become a link to a directory of root."""
    tmp_path = open_home
    owner = account.Account(65534, 65534)
    monkeypatch.setattr(account, "find", lambda: owner)
    monkeypatch.setattr(sentryfw.config, "DEFAULT_PATH", tmp_path / "etc" / "sentryfw.toml")
    config = Config(paths=Paths(**{name: tmp_path / name for name in ("state", "runtime", "log")}))
    roots = tmp_path / "root's"
    for directory in (roots, config.paths.state, config.paths.runtime, config.paths.log):
        directory.mkdir()
        (directory / "foreign").touch()
    (roots / "holiday.pcapng").touch()
    config.paths.evidence.symlink_to(roots)
    config.paths.ledger.symlink_to(roots / "holiday.pcapng")
    config.paths.events.touch()
    event_file.place(config.paths.events, 3).touch()
    for directory in (config.paths.state, config.paths.log):
        os.chown(directory, *owner)
    os.chown(config.paths.evidence, *owner, follow_symlinks=False)
    install._purge(config, open_home / "other.toml")
    assert sorted(path.name for path in roots.iterdir()) == ["foreign", "holiday.pcapng"]
    assert not os.path.lexists(config.paths.evidence)
    assert [path.name for path in config.paths.log.iterdir()] == ["foreign"]
