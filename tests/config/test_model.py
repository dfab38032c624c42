"""The configuration: defaults, and every fault at once with its place."""

from contextlib import suppress
from ipaddress import IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw import config
from sentryfw.config import load, parse
from sentryfw.config.files import MAX_CONFIG_BYTES, MAX_LINE_BYTES
from sentryfw.config.model import TRIGGERS, Config
from sentryfw.engine.model import ACCEPT, DROP
from sentryfw.errors import ConfigError
from support.forge import networks

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
TEN_YEARS = 315_360_000


def _faults(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(data, "test.toml")
    return caught.value.faults


# --- defaults and values


def test_the_defaults_are_those_of_the_design() -> None:
    defaults = parse(b"", "test.toml")
    assert defaults == Config()
    assert defaults.horizons() == (
        3, 300.0, 6, 86400.0,
        {
            "null": 2, "fin": 2, "xmas": 2, "synfin": 2, "badflags": 2, "urg": 2, "icmp": 10,
            "rst": 16, "connect": 1,
        },
        False,
    )  # fmt: skip
    policy = defaults.policy()
    assert policy.timeouts == (3600.0, 14400.0, 86400.0, 604800.0)
    assert (policy.mode, policy.unlisted, policy.partners) == ("block", DROP, True)
    never = defaults.never_block
    assert never.gateways
    assert never.resolvers
    assert never.ssh_peers
    assert never.addresses == ()


def test_paths_lie_in_their_directories() -> None:
    paths = parse(b'[paths]\nstate = "/s"\nruntime = "/r"\nlog = "/l"', "test.toml").paths
    assert [str(path) for path in (paths.ledger, paths.lock, paths.control, paths.events)] == [
        "/s/ledger.db", "/r/sentryfwd.lock", "/r/control.sock", "/l/events.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "changed"),
    [("{}", {}), ("{ fin = 3 }", {"fin": 3}), ("{ udp = 20, null = 64 }", {"udp": 20, "null": 64})],
    ids=["empty", "one", "another and one"],
)
def test_triggers_that_are_not_named_keep_their_defaults(
    written: str, changed: dict[str, int]
) -> None:
    parsed = parse(f"[detect]\ntriggers = {written}".encode(), "test.toml")
    assert parsed.detect.triggers == {**TRIGGERS, **changed}


def test_configured_values_reach_the_engine() -> None:
    text = """
    [detect]
    trigger = 5
    window = "90s"
    slow_trigger = 9
    slow_window = "12h"
    triggers = { udp = 20 }
    count = "probes"
    mode = "observe"
    [block]
    timeouts = ["10m", 3600]
    unlisted = "accept"
    per_minute = 7
    max_elements = 8
    udp = "observe"
    [never_block]
    partners = false
    """
    written = parse(text.encode(), "test.toml")
    spared = networks("192.0.2.1")
    assert written.horizons() == (5, 90.0, 9, 43200.0, {**TRIGGERS, "udp": 20}, True)
    assert written.policy(spared) == (
        (600.0, 3600.0), "observe", ACCEPT, 7, 8, False, spared, "block", "observe",
        "defer", True, True, frozenset(), frozenset(), (),
    )  # fmt: skip


# --- faults


def test_all_faults_are_reported_at_once_with_their_key_paths() -> None:
    faults = _faults("""
    [paths]
    state = "var"
    [detect]
    trigger = 0
    triggers = { nul = 1, syn = 65 }
    mode = "blok"
    triger = 3
    [block]
    timeouts = ["1h", "soon"]
    [queue]
    number = 65536
    max_len = 1
    [blok]
    """)
    assert sorted(fault.split(":")[0] for fault in faults) == [
        "block.timeouts.1", "blok", "detect.mode", "detect.triger", "detect.trigger",
        "detect.triggers.nul", "detect.triggers.syn", "paths.state", "queue.max_len",
        "queue.number",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[detekt]", "detekt: unknown key, did you mean 'detect'?"),
        ("[detect]\ntriger = 3", "detect.triger: unknown key, did you mean 'trigger'?"),
        ("[queue]\nmaxlen = 3", "queue.maxlen: unknown key, did you mean 'max_len'?"),
        ("[queue]\nnumer = 3", "queue.numer: unknown key, did you mean 'number'?"),
        ("[watch]\nzzz = 3", "watch.zzz: unknown key"),
        ("zzz = 3", "zzz: unknown key"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_reported_with_the_nearest(text: str, fault: str) -> None:
    assert _faults(text) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[queue]\nnumber = 65536",
         "queue.number: must be 65535 or less (got 65536)"),
        ('[detect]\nwindow = "soon"',
         """detect.window: 'soon' is not a duration: write "90s", "5m", "4h", "1d", "1h30m\""""),
        ('[paths]\nlog = "var"', "paths.log: var is not an absolute path (got 'var')"),
    ],
)  # fmt: skip
def test_a_fault_shows_the_given_value_once(text: str, fault: str) -> None:
    assert _faults(text) == [fault]


@pytest.mark.parametrize(
    "text",
    ["detect = 3", "[block]\ntimeouts = []", '[detect]\nmode = "off"', "[detect]\ntrigger = 65",
     '[block]\nunlisted = "refuse"', "[block]\nper_minute = 0", '[queue]\nnumber = "x"',
     "[watch]\nlisted_tcp = 22", "[detect]\nwindow = 2020-01-01"],
)  # fmt: skip
def test_a_value_out_of_its_range_is_a_fault(text: str) -> None:
    assert len(_faults(text)) == 1


@pytest.mark.parametrize("key", ["detect.trigger", "block.per_minute", "queue.number"])
def test_a_boolean_is_not_a_number(key: str) -> None:
    (fault,) = _faults(f"{key} = true")
    assert fault.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("more", "faults"),
    [(0, []), (1, [f"a line is longer than {MAX_LINE_BYTES} bytes"])],
    ids=["longest", "longer"],
)
def test_a_line_of_more_than_16_kibibytes_is_a_fault(more: int, faults: list[str]) -> None:
    text = "#" * (MAX_LINE_BYTES + more)
    if faults:
        assert _faults(text) == faults
    else:
        assert parse(text.encode(), "test.toml") == Config()


def test_broken_toml_is_reported_with_its_line() -> None:
    (fault,) = _faults("[detect]\ntrigger = \n")
    assert fault.startswith("not TOML: ")
    assert "line 2" in fault


def test_invalid_utf8_is_reported_with_its_byte() -> None:
    assert _faults(b"# caf\xe9\n") == ["not UTF-8 at byte 5"]


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse(b"\xef\xbb\xbf[detect]\ntrigger = 4\n", "test.toml").detect.trigger == 4


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "a = " + "{a = " * 5000, "[detect]\nwindow" + ".a" * 2000 + " = 1",
     "[detect]\ntriggers" + ".a" * 2000 + " = 1"],
    ids=["lists", "tables", "dotted-value", "dotted-table"],
)  # fmt: skip
def test_deep_nesting_is_a_fault_and_no_crash(text: str) -> None:
    assert len(_faults(text)) >= 1


@given(st.binary(max_size=60))
def test_any_bytes_are_a_configuration_or_a_config_error(data: bytes) -> None:
    with suppress(ConfigError):
        assert isinstance(parse(data, "test.toml"), Config)


# --- files


def test_no_file_at_the_default_place_gives_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "sentryfw.toml")
    assert load(None) == Config()


def test_a_file_at_the_default_place_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "sentryfw.toml"
    place.write_text("[detect]\ntrigger = 4\n")
    monkeypatch.setattr(config, "DEFAULT_PATH", place)
    assert load(None).detect.trigger == 4


def test_no_file_at_an_explicit_place_is_a_fault(tmp_path: Path) -> None:
    place = tmp_path / "sentryfw.toml"
    with pytest.raises(ConfigError) as caught:
        load(place)
    assert str(caught.value) == f"{place}: no such file"


def test_a_directory_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)], ids=["largest", "larger"])
def test_a_file_of_more_than_a_mebibyte_is_a_fault(
    tmp_path: Path, more: int, *, fits: bool
) -> None:
    place = tmp_path / "sentryfw.toml"
    comments = (b"#" * 127 + b"\n") * (MAX_CONFIG_BYTES // 128)
    place.write_bytes(comments + b"#" * more)
    if fits:
        assert load(place) == Config()
    else:
        with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
            load(place)


def test_faults_are_reported_one_a_line_with_the_file(tmp_path: Path) -> None:
    place = tmp_path / "sentryfw.toml"
    place.write_text("[watch]\nzzz = 1\nyyy = 2\n")
    with pytest.raises(ConfigError) as caught:
        load(place)
    assert str(caught.value).splitlines() == [
        f"{place}: watch.zzz: unknown key",
        f"{place}: watch.yyy: unknown key",
    ]


def test_a_bad_configuration_ends_in_ex_config() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(b"zzz = 1", "test.toml")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("text", ["192.0.2.0/24", "2001:db8::/129", ""])
def test_whole6_takes_ipv6_networks_only(text: str) -> None:
    with pytest.raises(ConfigError, match=r"detect\.whole6"):
        parse(f'[detect]\nwhole6 = ["{text}"]\n'.encode(), "test.toml")


def test_whole6_takes_any_prefix() -> None:
    config = parse(b'[detect]\nwhole6 = ["2001:db8::1/32", "::/0"]\n', "test.toml")
    assert config.detect.whole6 == (IPv6Network("2001:db8::/32"), IPv6Network("::/0"))
