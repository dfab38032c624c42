"""[[watch.listed_forward]]: valid entries, and the faults of others."""

from ipaddress import ip_network

import pytest

from sentryfw.config import parse
from sentryfw.errors import ConfigError

OUTSIDE = 'interfaces = ["wan0"]\nforward = true\n'


def _watch(text: str, where: str = "test.toml") -> str:
    try:
        parse(f"[watch]\n{text}".encode(), where)
    except ConfigError as error:
        return str(error)
    return ""


def test_one_address_a_list_and_protocols_by_name_or_number() -> None:
    watch = parse(
        f"""[watch]
        {OUTSIDE}
        listed_forward = [
            {{ to = "192.0.2.1/24", tcp = [22, "80-81"] }},
            {{ to = ["192.0.2.7", "2001:db8::/48"], protocols = ["icmpv6", 47] }},
        ]""".encode(),
        "test.toml",
    ).watch
    first, second = watch.listed_forward
    assert first.to == (ip_network("192.0.2.0/24"),)
    assert first.tcp == ((22, 22), (80, 81))
    assert [str(network) for network in second.to] == ["192.0.2.7/32", "2001:db8::/48"]
    assert second.protocols == (58, 47)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('to = "192.0.2.1"', "watch.listed_forward.0: lists nothing"),
        ("tcp = [1]", "watch.listed_forward.0.to: is missing"),
        ("to = []\ntcp = [1]", "watch.listed_forward.0.to:"),
        ('to = "host"\ntcp = [1]', "neither an address nor a network"),
        ('to = "192.0.2.1"\ntcp = [70000]', "watch.listed_forward.0.tcp.0:"),
        ('to = "192.0.2.1"\nprotocols = ["gre"]', "write its number"),
        ('to = "192.0.2.1"\nprotocols = [256]', "watch.listed_forward.0.protocols.0:"),
        ('to = "192.0.2.1"\nprotocols = [true]', "not true or false"),
        ('to = "192.0.2.1"\ntpc = [1]', "listed_forward.0.tpc: unknown key, did you mean 'tcp'?"),
    ],
    ids=["nothing", "nowhere", "no-to", "name", "port", "unnamed", "number", "bool", "unknown"],
)  # fmt: skip
def test_a_faulty_entry_is_reported_with_its_index(entry: str, said: str) -> None:
    assert said in _watch(f"{OUTSIDE}[[watch.listed_forward]]\n{entry}\n")


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ("forward = true", "forward needs interfaces"),
        (f'{OUTSIDE}mode = "traps"', 'forward needs mode = "unlisted"'),
        ('listed_forward = [{ to = "192.0.2.1", tcp = [1] }]', "listed_forward needs forward"),
    ],
    ids=["no-outside", "traps", "off"],
)
def test_a_fault_names_what_forward_needs(watch: str, said: str) -> None:
    assert said in _watch(watch)
