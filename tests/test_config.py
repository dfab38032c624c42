"""The configuration: defaults, and every fault at once with its place."""

from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw import config
from sentryfw.config import TRIGGERS, Config, load, parse
from sentryfw.config_files import MAX_CONFIG_BYTES, MAX_LINE_BYTES
from sentryfw.engine.model import ACCEPT, DROP
from sentryfw.errors import ConfigError
from sentryfw.fields import parse_duration

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
            "null": 1, "fin": 1, "xmas": 1, "synfin": 1, "badflags": 1, "urg": 1, "icmp": 10,
            "connect": 1,
        },
        False,
    )  # fmt: skip
    policy = defaults.policy(())
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
    [("{}", {}), ("{ fin = 2 }", {"fin": 2}), ("{ udp = 20, null = 64 }", {"udp": 20, "null": 64})],
    ids=["empty", "one", "another and one"],
)
def test_triggers_that_are_not_named_keep_their_defaults(
    written: str, changed: dict[str, int]
) -> None:
    parsed = parse(f"[detect]\ntriggers = {written}".encode(), "test.toml")
    assert parsed.detect.triggers == {**TRIGGERS, **changed}


def test_what_is_written_reaches_the_engine() -> None:
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
    spared = (ip_network("192.0.2.1"),)
    assert written.horizons() == (5, 90.0, 9, 43200.0, {**TRIGGERS, "udp": 20}, True)
    assert written.policy(spared) == (
        (600.0, 3600.0), "observe", ACCEPT, 7, 8, False, spared, "block", "observe",
        True, frozenset(),
    )  # fmt: skip


# --- durations


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90s", 90), ("5m", 300), ("4h", 14400), ("1d", 86400), ("2w", 1209600), ("1h30m", 5400),
     (" 5m ", 300), ("45", 45), (45, 45), (0.5, 0.5), (TEN_YEARS, TEN_YEARS)],
)  # fmt: skip
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "m", "5 m", "5M", "-5m", "5.5m", "5m3", "1h,30m", "0", "0s", 0, -1, TEN_YEARS + 1, "522w",
     float("nan"), float("inf"), True, None, [5], {"s": 5}],
    ids=repr,
)  # fmt: skip
def test_what_is_no_duration_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|out of range"):
        parse_duration(value)


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("smhdw")), min_size=1, max_size=6))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    seconds = sum(number * UNITS[unit] for number, unit in parts)
    if 0 < seconds <= TEN_YEARS:
        written = parse(f'[detect]\nwindow = "{text}"'.encode(), "test.toml")
        assert written.detect.window == seconds
    else:
        with pytest.raises(ValueError, match="out of range"):
            parse_duration(text)


@given(st.integers(1, TEN_YEARS))
def test_seconds_are_read_back_from_every_notation(seconds: int) -> None:
    days, rest = divmod(seconds, 86400)
    assert parse_duration(f"{days}d{rest // 60}m{rest % 60}s") == seconds
    assert parse_duration(str(seconds)) == parse_duration(seconds) == seconds


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 < seconds <= TEN_YEARS


@pytest.mark.parametrize(
    "value",
    [f"1{'0' * 400}", f"1{'0' * 5000}", f'"1{"0" * 400}s"', f'"1{"0" * 5000}s"'],
    ids=["number-400", "number-5000", "text-400", "text-5000"],
)
def test_a_number_of_any_length_is_a_fault_and_no_crash(value: str) -> None:
    assert len(_faults(f"[detect]\nwindow = {value}")) == 1


# --- ports, networks, interfaces


@pytest.mark.parametrize(
    ("written", "ports"),
    [("22", (22, 22)), ('"22"', (22, 22)), ('"6000-6010"', (6000, 6010)), ("0", (0, 0)),
     ('"6000 - 6010"', (6000, 6010)), ('"0-65535"', (0, 65535))],
)  # fmt: skip
def test_ports(written: str, ports: tuple[int, int]) -> None:
    watch = parse(f"[watch]\nlisted_tcp = [{written}]".encode(), "test.toml").watch
    assert watch.listed_tcp == (ports,)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_ports_are_listed_by_protocol(protocol: str) -> None:
    watch = parse(f'[watch]\nlisted_{protocol} = [7, "9-11"]'.encode(), "test.toml").watch
    listed = {"tcp": watch.listed_tcp, "udp": watch.listed_udp, "sctp": watch.listed_sctp}
    assert listed.pop(protocol) == ((7, 7), (9, 11))
    assert set(listed.values()) == {()}


@pytest.mark.parametrize(
    "written",
    ["65536", "-1", "22.5", "true", '""', '"-"', '"22-"', '"-22"', '"22 80"', '"22,80"', '"ssh"',
     '"30-20"', '"1-2-3"', '"1-65536"', "[22]"],
)  # fmt: skip
def test_what_are_no_ports_is_a_fault(written: str) -> None:
    (fault,) = _faults(f"[watch]\nlisted_udp = [80, {written}]")
    assert fault.startswith("watch.listed_udp.1: ")


@pytest.mark.parametrize(
    ("written", "network"),
    [("192.0.2.1", "192.0.2.1/32"), ("192.0.2.77/24", "192.0.2.0/24"),
     ("2001:db8::1", "2001:db8::1/128"), ("2001:db8::1/32", "2001:db8::/32"),
     (" 192.0.2.1 ", "192.0.2.1/32"), ("192.0.2.0/255.255.255.0", "192.0.2.0/24")],
)  # fmt: skip
def test_host_bits_of_a_network_are_forgiven(written: str, network: str) -> None:
    text = f'[never_block]\naddresses = ["{written}"]'
    assert parse(text.encode(), "test.toml").never_block.addresses == (ip_network(network),)


@pytest.mark.parametrize("written", ['""', '"host"', '"192.0.2"', '"192.0.2.1/33"', "1", "true"])
def test_what_is_no_network_is_a_fault(written: str) -> None:
    (fault,) = _faults(f"[never_block]\naddresses = [{written}]")
    assert fault.startswith("never_block.addresses.0: ")


@pytest.mark.parametrize(
    "name", ["eth0", "ppp*", "br-lan", "eth0.100", "veth@if3", "a" * 15, "a" * 14 + "*"]
)
def test_interfaces(name: str) -> None:
    text = f'[watch]\ninterfaces = ["{name}"]'
    assert parse(text.encode(), "test.toml").watch.interfaces == (name,)


@pytest.mark.parametrize(
    "name",
    ["", "*", "a b", "a/b", "a" * 16, "a" * 15 + "*", "eth0;", "-eth0", 'e\\"', "e\\n", "et*h",
     "eth0 }"],
)  # fmt: skip
def test_what_is_no_interface_is_a_fault(name: str) -> None:
    (fault,) = _faults(f'[watch]\ninterfaces = ["{name}"]')
    assert fault.startswith("watch.interfaces.0: ")


# --- faults


def test_every_fault_is_told_at_once_with_its_key_path() -> None:
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
def test_an_unknown_key_is_told_with_the_nearest(text: str, fault: str) -> None:
    assert _faults(text) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[queue]\nnumber = 65536",
         "queue.number: input should be less than or equal to 65535 (got 65536)"),
        ('[detect]\nwindow = "soon"',
         """detect.window: 'soon' is no duration: write "90s", "5m", "4h", "1d", "1h30m\""""),
        ('[paths]\nlog = "var"', "paths.log: var is no absolute path (got 'var')"),
    ],
)  # fmt: skip
def test_a_fault_says_what_was_given_once(text: str, fault: str) -> None:
    assert _faults(text) == [fault]


@pytest.mark.parametrize(
    "text",
    ["detect = 3", "[block]\ntimeouts = []", '[detect]\nmode = "off"', "[detect]\ntrigger = 65",
     '[block]\nunlisted = "reject"', "[block]\nper_minute = 0", '[queue]\nnumber = "x"',
     "[watch]\nlisted_tcp = 22", "[detect]\nwindow = 2020-01-01"],
)  # fmt: skip
def test_a_value_out_of_its_range_is_a_fault(text: str) -> None:
    assert len(_faults(text)) == 1


@pytest.mark.parametrize("key", ["detect.trigger", "block.per_minute", "queue.number"])
def test_a_truth_value_is_no_number(key: str) -> None:
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


def test_broken_toml_is_told_with_its_line() -> None:
    (fault,) = _faults("[detect]\ntrigger = \n")
    assert fault.startswith("no TOML: ")
    assert "line 2" in fault


def test_what_is_not_utf8_is_told_with_its_byte() -> None:
    assert _faults(b"# caf\xe9\n") == ["not UTF-8 at byte 5"]


def test_a_byte_order_mark_is_forgiven() -> None:
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


def test_faults_are_told_one_a_line_with_the_file(tmp_path: Path) -> None:
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
