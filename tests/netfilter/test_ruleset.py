"""What is rendered, what nft and the kernel make of it, and what every rule has to be."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sentryfw import config
from sentryfw.netfilter import ruleset
from sentryfw.netns import Namespace
from support.golden import GOLDEN, assert_golden

DUMPED_BY: Final = "nftables v1.0.6"
DEFAULT: Final = config.Config()
FULL: Final = config.parse(
    b"""
    [watch]
    interfaces = ["eth0", "ppp*"]
    listed_tcp = [22, "6000-6010"]
    listed_udp = [53]
    listed_sctp = [3868]
    mode = "traps"
    trap_tcp = [1, "7-11", 9]
    trap_udp = [7]
    [decoy]
    tcp = [15, "20-25", 22]
    udp = [9]
    banner = "go away"
    [queue]
    number = 77
    """,
    "full",
)
FORWARD: Final = config.parse(
    b"""
    [watch]
    interfaces = ["wan*"]
    upper_tcp = 49152
    upper_udp = 32768
    forward = true
    [[watch.listed_forward]]
    to = "198.18.64.0/20"
    tcp = [22, 80, "6000-6010"]
    protocols = ["icmp", 47]
    [[watch.listed_forward]]
    to = ["198.18.64.7", "2001:2:1::/48"]
    tcp = ["70-90", 443]
    udp = [53]
    sctp = [3868]
    """,
    "forward",
)
INSIDE: Final = config.parse(
    b"""
    [watch]
    inside = ["lan*", "vpn0"]
    forward = true
    [decoy]
    tcp = [15]
    udp = [9]
    banner = "go away"
    """,
    "inside",
)
NEVER_BLOCK: Final = [
    ip_network(text)
    for text in (
        "198.18.0.1/32",
        "198.18.4.0/24",
        "198.18.5.0/24",
        "2001:2::1/128",
        "2001:2:1::/48",
    )
]


class Case(NamedTuple):
    """A configuration and how it is rendered."""

    name: str
    settings: config.Config
    never_block: list[ruleset.IPNetwork]
    queue_statement: bool = False
    update: bool = False

    def render(self) -> ruleset.Ruleset:
        return ruleset.render(
            self.settings,
            self.never_block,
            queue_statement=self.queue_statement,
            update=self.update,
        )


BASIC: Final = Case("default", DEFAULT, [])
FILLED: Final = Case("full", FULL, NEVER_BLOCK)
QUEUE: Final = Case("queue_statement", DEFAULT, [], queue_statement=True)
ROUTER: Final = Case("forward", FORWARD, [])
LAN: Final = Case("inside", INSIDE, [])
UPDATE: Final = Case("update", FULL, NEVER_BLOCK, update=True)
CASES: Final = (BASIC, FILLED, QUEUE, UPDATE, ROUTER, LAN)
LOADED: Final = (BASIC, FILLED, ROUTER, LAN)
RULES: Final = [
    (path.name, line.strip())
    for path in sorted(ruleset.directory().glob("*.nft"))
    for line in path.read_text().splitlines()
    if not line.lstrip().startswith("#")
]


def _golden(name: str) -> Path:
    return GOLDEN / "rulesets" / name


def _load(namespace: Namespace, name: str, *options: str) -> None:
    done = namespace.run("nft", *options, "-f", _golden(f"{name}.nft"))
    assert done.returncode == 0, done.stderr


def _dump(namespace: Namespace) -> str:
    """The table as the kernel holds it; without counts, times and handles."""
    done = namespace.run("nft", "-s", "list", "table", "inet", "sentryfw")
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- golden


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rulesets_are_the_golden_ones(case: Case) -> None:
    assert_golden(f"rulesets/{case.name}.nft", case.render().script)


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_nft_checks_the_golden_ruleset(namespace: Namespace, case: Case) -> None:
    _load(namespace, case.name, "-c")
    assert namespace.run("nft", "list", "ruleset").stdout == ""


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_the_kernel_holds_the_golden_table(namespace: Namespace, case: Case) -> None:
    version = namespace.run("nft", "--version").stdout
    if DUMPED_BY not in version:
        pytest.skip(f"the dumps are in the wording of {DUMPED_BY}, this is {version.strip()}")
    _load(namespace, case.name)
    assert_golden(f"rulesets/{case.name}.dump", _dump(namespace))


@pytest.mark.netns
@pytest.mark.parametrize(
    ("before", "after", "same_as"),
    [
        (("full",), "default", "default"),
        (("default",), "update", "full"),
        (("full", "update"), "update", "full"),
        (("forward",), "default", "default"),
        (("full",), "forward", "forward"),
        (("forward",), "inside", "inside"),
    ],
    ids=["made-anew", "updated", "updated-twice", "forward-off", "forward-on", "inside-on"],
)
def test_a_table_loaded_over_another_is_the_one_a_fresh_install_makes(
    namespace: Namespace, before: tuple[str, ...], after: str, same_as: str
) -> None:
    for name in before:
        _load(namespace, name)
    _load(namespace, after, "-c")
    _load(namespace, after)
    with Namespace() as fresh:
        _load(fresh, same_as)
        assert _dump(namespace) == _dump(fresh)


@pytest.mark.netns
def test_the_queue_statement_is_loaded_where_the_kernel_has_it(
    namespace: Namespace, *, has_queue_statement: bool
) -> None:
    if not has_queue_statement:
        pytest.skip("this kernel lacks CONFIG_NFT_QUEUE; nft's bytecode is looked at instead")
    _load(namespace, "queue_statement", "-c")
    _load(namespace, "queue_statement")
    assert _dump(namespace).count("queue flags bypass to 5277 comment") == 1


@pytest.mark.netns
def test_nft_compiles_the_queue_statement_and_objects_to_nothing_else(
    namespace: Namespace, *, has_queue_statement: bool
) -> None:
    path = _golden("queue_statement.nft")
    done = namespace.run("nft", "--debug=netlink", "-c", "-f", path)
    assert done.stdout.count("[ queue num 5277 bypass ]") == 1
    complaints = re.findall(r"^.*?:(\d+):\S+ Error: (.*)$", done.stderr, re.MULTILINE)
    line = path.read_text().splitlines().index(_queue_rule()) + 1
    lacking = [(str(line), "Could not process rule: No such file or directory")]
    assert complaints == ([] if has_queue_statement else lacking)


def _queue_rule() -> str:
    return next(line for name, line in RULES if name == "divert.nft" and "queue" in line)


# --- what is rendered


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_the_ruleset_knows_what_the_kernel_will_hold(namespace: Namespace, case: Case) -> None:
    _load(namespace, case.name)
    dump = _dump(namespace)
    rendered = case.render()
    for kind, names in (
        ("set", rendered.sets),
        ("chain", rendered.chains),
        ("counter", rendered.counters),
    ):
        assert set(re.findall(rf"^\t{kind} (\w+) {{$", dump, re.MULTILINE)) == names


def test_only_sets_of_the_configuration_are_flushed_by_an_update() -> None:
    flushed = re.findall(r"^flush set inet sentryfw (\w+)$", UPDATE.render().script, re.MULTILINE)
    assert set(flushed) == {
        "watched_if",
        "never_block4",
        "never_block6",
        "listed_tcp",
        "listed_udp",
        "listed_sctp",
    }


@pytest.mark.parametrize(
    ("watch", "ports"),
    [
        ("", []),
        ("upper_tcp = 1024", [(1024, 65535)]),
        ("upper_tcp = 1", [(1, 65535)]),
        ('mode = "traps"', [(0, 65535)]),
        ('mode = "traps"\ntrap_tcp = [0, 65535]', [(1, 65534)]),
        ('mode = "traps"\ntrap_tcp = ["5-9", 7, "8-20", 21]', [(0, 4), (22, 65535)]),
        ('mode = "traps"\ntrap_tcp = ["0-65535"]', []),
        ('mode = "traps"\ntrap_tcp = [7]\n[decoy]\ntcp = [9]', [(0, 6), (8, 8), (10, 65535)]),
        ("upper_tcp = 8\n[decoy]\ntcp = [9]", [(8, 8), (10, 65535)]),
    ],
)
def test_what_is_no_trap_or_above_the_bound_is_not_watched(
    watch: str, ports: list[tuple[int, int]]
) -> None:
    settings = config.parse(f"[watch]\n{watch}\n".encode(), "test")
    assert ruleset.unwatched(settings, "tcp") == ports


@pytest.mark.netns
@pytest.mark.parametrize(
    ("before", "after"),
    [(BASIC, ROUTER), (ROUTER, ROUTER), (BASIC, LAN), (LAN, LAN)],
    ids=["forward-on", "forward-again", "inside-on", "inside-again"],
)
def test_an_update_brings_hosts_behind_and_the_inside_and_takes_them_away(
    namespace: Namespace, before: Case, after: Case
) -> None:
    for case in (before, after._replace(update=True)):
        done = namespace.run("nft", case.render().script)
        assert done.returncode == 0, done.stderr
    with Namespace() as fresh:
        _load(fresh, after.name)
        assert _objects(namespace) == _objects(fresh)
    namespace.run("nft", BASIC._replace(update=True).render().script)
    assert "hook forward" in _dump(namespace)  # an empty chain: it judges nothing
    assert "jump aborted" not in _dump(namespace).partition("chain divert_forward")[2]


def _objects(namespace: Namespace) -> list[str]:
    """What the table holds, whatever the order in which it was made."""
    return sorted(re.split(r"\n\n", _dump(namespace).partition("\n")[2].rstrip("}\n")))


def test_an_update_never_deletes_the_table() -> None:
    assert "delete table" not in UPDATE.render().script
    assert "delete table" in BASIC.render().script


@pytest.mark.netns
def test_interfaces_that_others_cover_are_left_out(namespace: Namespace, tmp_path: Path) -> None:
    """nft refuses them: conflicting intervals."""
    toml = b'[watch]\ninterfaces = ["eth*", "eth0", "et*", "lan", "eth0"]'
    script = Case("covered", config.parse(toml, "test"), []).render().script
    file = tmp_path / "covered.nft"
    file.write_text(script)
    done = namespace.run("nft", "-c", "-f", file)
    assert done.returncode == 0, done.stderr
    assert 'define watched_if = { "et*", "lan" }' in script


def test_networks_that_touch_are_joined() -> None:
    assert "198.18.4.0/23" in FILLED.render().script


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loopback_is_never_blocked(case: Case) -> None:
    defines = dict(re.findall(r"^define (\w+) = (.*)$", case.render().script, re.MULTILINE))
    assert "127.0.0.0/8" in defines["never_block4"]
    assert "::1/128" in defines["never_block6"]


@pytest.mark.netns
def test_elements_are_put_back_behind_a_fresh_ruleset(namespace: Namespace) -> None:
    lines = ["block4 { 198.18.0.2 timeout 1h expires 30m }", "partner6 { 2001:2:: }"]
    script = BASIC.render().script + ruleset.restore_elements(lines)
    done = namespace.run("nft", script)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"198\.18\.0\.2 .*timeout 1h expires (30m|29m59s\d+ms)",
        namespace.run("nft", "list", "set", "inet", "sentryfw", "block4").stdout,
    )
    assert "2001:2::" in namespace.run("nft", "list", "set", "inet", "sentryfw", "partner6").stdout


# --- what every rule has to be


def _verdicts(rule: str) -> set[str]:
    """The words of a rule, comment and set contents aside."""
    return set(re.sub(r'comment ".*"', "", rule).split())


def test_every_rule_that_drops_says_why() -> None:
    dropping = [(name, rule) for name, rule in RULES if "drop" in _verdicts(rule)]
    assert len(dropping) > 10
    silent = [pair for pair in dropping if not re.search(r'comment "sentryfw: .+"$', pair[1])]
    assert silent == []


def test_every_rule_that_drops_counts() -> None:
    uncounted = [
        (name, rule)
        for name, rule in RULES
        if "drop" in _verdicts(rule) and "counter" not in _verdicts(rule)
    ]
    assert uncounted == []


def test_only_the_meters_drop_and_update_in_one_rule() -> None:
    """A full set ends a rule, and with it a drop behind an update."""
    both = [
        rule
        for _, rule in RULES
        if "drop" in _verdicts(rule) and {"update", "add"} & _verdicts(rule)
    ]
    assert [re.search(r"update (@\w+)", rule)[1] for rule in both] == ["@meter4", "@meter6"]  # type: ignore[index]


def test_every_chain_accepts_what_it_does_not_judge() -> None:
    policies = re.findall(r"policy (\w+);", BASIC.render().script)
    assert policies
    assert set(policies) == {"accept"}


def test_every_ruleset_file_is_loaded() -> None:
    cases = (FILLED._replace(queue_statement=True), ROUTER, LAN)
    everything = "".join(case.render().script for case in cases)
    for path in ruleset.directory().glob("*.nft"):
        assert path.read_text().splitlines()[0] in everything, path.name
