"""The rendered rulesets: golden, loaded into a kernel, and the properties of every rule."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.host.protected import index_of
from sentryfw.netfilter import ruleset
from sentryfw.netfilter.script import Ruleset, restore_elements
from sentryfw.tools.drill.namespace import Namespace
from support.golden import GOLDEN, assert_golden

DUMPED_BY: Final = "nftables v1.0.6"
DEFAULT: Final = Config()
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
ZONED: Final = config.parse(
    b"""
    [watch]
    interfaces = ["wan1"]
    [block]
    while_away = "drop"
    [[zone]]
    name = "backup"
    interfaces = ["wan2"]
    mode = "observe"
    [[zone]]
    name = "guests"
    interfaces = ["guest*", "guest1"]
    inside = true
    listed_tcp = [80, "8080-8090", 8085]
    listed_udp = [53]
    [[zone]]
    name = "vpn"
    interfaces = ["wg*"]
    listed_tcp = [22]
    listed_sctp = [9]
    """,
    "zones",
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
    config: Config
    never_block: list[ruleset.IPNetwork]
    queue_statement: bool = False
    update: bool = False

    def render(self) -> Ruleset:
        return ruleset.render(self.config, index_of(self.never_block))

    def script(self) -> str:
        return self.render().script(queue_statement=self.queue_statement, update=self.update)


BASIC: Final = Case("default", DEFAULT, [])
FILLED: Final = Case("full", FULL, NEVER_BLOCK)
QUEUE: Final = Case("queue_statement", DEFAULT, [], queue_statement=True)
ROUTER: Final = Case("forward", FORWARD, [])
LAN: Final = Case("inside", INSIDE, [])
ZONES: Final = Case("zones", ZONED, [])
UPDATE: Final = Case("update", FULL, NEVER_BLOCK, update=True)
REFUSING: Final = Case("reject", config.parse(b'[block]\nunlisted = "reject"', "reject"), [])
AWAY: Final = Case("away", config.parse(b'[block]\nwhile_away = "drop"', "away"), [])
MEMBER: Final = f'[fleet]\nname = "fw1"\n[fleet.members.fw2]\nkey = "{"ab" * 32}"'
PAIR: Final = Case("pair", config.parse(f'{MEMBER}\ntrust = "full"'.encode(), "pair"), [])
FLEET: Final = Case("fleet", config.parse(MEMBER.encode(), "fleet"), [])
PREFIXES: Final = Case("prefixes", config.parse(b'[block]\nprefixes = "both"', "prefixes"), [])
EVERYTHING: Final = Case(
    "everything", config.parse(f'[block]\nprefixes = "ipv6"\n{MEMBER}'.encode(), "everything"), []
)
CASES: Final = (
    BASIC, FILLED, QUEUE, UPDATE, ROUTER, LAN, ZONES, REFUSING, AWAY, FLEET, PAIR, PREFIXES,
    EVERYTHING,
)  # fmt: skip
LOADED: Final = (BASIC, FILLED, ROUTER, LAN, ZONES, PAIR)
RULES: Final = [
    (path.name, line.strip())
    for path in sorted(ruleset.directory().glob("*.nft"))
    for line in path.read_text().splitlines()
    if not line.lstrip().startswith("#")
]


def _load(namespace: Namespace, script: str, *options: str) -> None:
    done = namespace.run("nft", *options, script)
    assert done.returncode == 0, done.stderr


def _dump(namespace: Namespace) -> str:
    """Return the table as the kernel holds it, without counts, times and handles."""
    done = namespace.run("nft", "-s", "list", "table", "inet", "sentryfw")
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- golden


@pytest.mark.parametrize("case", [BASIC, UPDATE], ids=lambda case: case.name)
def test_the_rendered_script_is_golden(case: Case) -> None:
    assert_golden(f"rulesets/{case.name}.nft", case.script())


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_the_kernel_holds_the_golden_table(namespace: Namespace, case: Case) -> None:
    version = namespace.run("nft", "--version").stdout
    if DUMPED_BY not in version:
        pytest.skip(f"the dumps are in the wording of {DUMPED_BY}, this is {version.strip()}")
    _load(namespace, case.script())
    assert_golden(f"rulesets/{case.name}.dump", _dump(namespace))


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_nft_checks_the_script_without_loading_it(namespace: Namespace, case: Case) -> None:
    _load(namespace, case.script(), "-c")
    assert namespace.run("nft", "list", "ruleset").stdout == ""


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_nft_loads_its_own_listing_of_the_table(
    namespace: Namespace, case: Case, tmp_path: Path
) -> None:
    """An operator's `nft list ruleset > FILE` is a backup that can be restored."""
    _load(namespace, case.script())
    listing = tmp_path / "listing.nft"
    listing.write_text(_dump(namespace))
    with Namespace() as fresh:
        done = fresh.run("nft", "-f", listing)
        assert done.returncode == 0, done.stderr
        assert _dump(fresh) == _dump(namespace)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((FILLED,), BASIC),
        ((BASIC,), UPDATE),
        ((FILLED, UPDATE), UPDATE),
        ((ROUTER,), BASIC),
        ((FILLED,), ROUTER),
        ((ROUTER,), LAN),
    ],
    ids=["new", "updated", "updated-twice", "forward-off", "forward-on", "inside-on"],
)
def test_a_table_loaded_over_another_is_the_one_of_a_fresh_install(
    namespace: Namespace, before: tuple[Case, ...], after: Case
) -> None:
    for case in before:
        _load(namespace, case.script())
    _load(namespace, after.script(), "-c")
    _load(namespace, after.script())
    with Namespace() as fresh:
        _load(fresh, after._replace(update=False).script())
        assert _objects(namespace) == _objects(fresh)


@pytest.mark.netns
def test_the_queue_statement_is_loaded_where_the_kernel_has_it(
    namespace: Namespace, *, has_queue_statement: bool
) -> None:
    if not has_queue_statement:
        pytest.skip("this kernel lacks CONFIG_NFT_QUEUE; another test reads nft's bytecode")
    _load(namespace, QUEUE.script())
    assert _dump(namespace).count("queue flags bypass to 5277 comment") == 1


@pytest.mark.netns
def test_nft_compiles_the_queue_statement_and_refuses_nothing_else(
    namespace: Namespace, tmp_path: Path, *, has_queue_statement: bool
) -> None:
    path = tmp_path / "queue.nft"
    path.write_text(QUEUE.script())
    done = namespace.run("nft", "--debug=netlink", "-c", "-f", path)
    assert done.stdout.count("[ queue num 5277 bypass ]") == 1
    complaints = re.findall(r"^.*?:(\d+):\S+ Error: (.*)$", done.stderr, re.MULTILINE)
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith("\t\tqueue flags"))
    lacking = [(str(number), "Could not process rule: No such file or directory")]
    assert complaints == ([] if has_queue_statement else lacking)


# --- what is rendered


@pytest.mark.netns
@pytest.mark.parametrize("case", LOADED, ids=lambda case: case.name)
def test_the_ruleset_names_what_the_kernel_will_hold(namespace: Namespace, case: Case) -> None:
    _load(namespace, case.script())
    dump = _dump(namespace)
    for kind in ("set", "chain", "counter"):
        names = re.findall(rf"^\t{kind} (\w+) {{$", dump, re.MULTILINE)
        assert set(names) == case.render().names(kind)


def test_an_update_flushes_only_the_sets_of_the_configuration() -> None:
    flushed = re.findall(r"^flush set inet sentryfw (\w+)$", UPDATE.script(), re.MULTILINE)
    assert set(flushed) == {
        "watched_if", "inside_if", "never_block4", "never_block6", "listed_tcp", "listed_udp",
        "listed_sctp", "listed_forward4", "listed_forward6", "unwatched_tcp", "unwatched_udp",
        "unwatched_protocol", "unwatched_reset", "decoy_tcp", "decoy_udp", "onlink4", "onlink6",
        "whole6", "greylist_tcp", "observed_if", "zone_tcp", "zone_udp", "zone_sctp",
        "unlimited_tcp",
    }  # fmt: skip


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
def test_ports_beside_the_traps_or_above_the_bound_are_not_watched(
    watch: str, ports: list[tuple[int, int]]
) -> None:
    parsed = config.parse(f"[watch]\n{watch}\n".encode(), "test")
    assert ruleset.unwatched(parsed, "tcp") == ports


@pytest.mark.parametrize(
    ("toml", "ports"),
    [
        ("", "113"),
        ("[watch]\nlisted_tcp = [22, '8000-8010']", "22, 113, 8000-8010"),
        ("[watch]\nupper_tcp = 60000", "113, 60000-65535"),
        ("[decoy]\ntcp = [23, 112]", "23, 112-113"),
        ("[[zone]]\nname = 'a'\ninterfaces = ['a0']\nlisted_tcp = [80]", "80, 113"),
        ("[watch]\nmode = 'traps'\ntrap_tcp = [7, 113]", "0-6, 8-65535"),
    ],
)
def test_what_may_be_listed_is_not_limited_early(toml: str, ports: str) -> None:
    case = Case("unlimited", config.parse(toml.encode(), "test"), [])
    assert _defines(case)["unlimited_tcp"] == f"{{ {ports} }}"


@pytest.mark.parametrize(
    ("watch", "resets", "protocols"),
    [
        ("", "{ }", "{ }"),
        ("upper_tcp = 1024", "{ 1024-65535 }", "{ }"),
        ('mode = "traps"\ntrap_tcp = [7]', "{ 0-65535 }", "{ 0-255 }"),
    ],
)
def test_traps_mode_watches_neither_half_open_connections_nor_other_protocols(
    watch: str, resets: str, protocols: str
) -> None:
    defines = _defines(Case("watch", config.parse(f"[watch]\n{watch}\n".encode(), "test"), []))
    assert defines["unwatched_reset"] == resets
    assert defines["unwatched_protocol"] == protocols


def test_interfaces_inside_are_watched_where_the_watched_ones_are_named() -> None:
    toml = b'[watch]\ninterfaces = ["wan0"]\ninside = ["lan*"]'
    defines = _defines(Case("both", config.parse(toml, "test"), []))
    assert (defines["watch"], defines["watched_if"]) == ("watch_some", '{ "wan0", "lan*" }')
    defines = _defines(ZONES)
    assert defines["watched_if"] == '{ "wan1", "wan2", "guest*", "wg*" }'
    assert defines["inside_if"] == '{ "guest*" }'
    assert defines["observed_if"] == '{ "wan2", "guest*" }'
    assert defines["zone_tcp"] == '{ "guest*" . 80, "guest*" . 8080-8090, "wg*" . 22 }'
    assert (defines["zone_udp"], defines["zone_sctp"]) == ('{ "guest*" . 53 }', '{ "wg*" . 9 }')
    defines = _defines(LAN)
    assert (defines["watch"], defines["watched_if"]) == ("watch_all", "{ }")


@pytest.mark.netns
@pytest.mark.parametrize(
    ("before", "after"),
    [(BASIC, ROUTER), (ROUTER, ROUTER), (BASIC, LAN), (LAN, LAN)],
    ids=["forward-on", "forward-again", "inside-on", "inside-again"],
)
def test_an_update_adds_and_removes_hosts_behind_and_the_inside(
    namespace: Namespace, before: Case, after: Case
) -> None:
    for case in (before, after._replace(update=True)):
        _load(namespace, case.script())
    with Namespace() as fresh:
        _load(fresh, after.script())
        assert _objects(namespace) == _objects(fresh)
    _load(namespace, BASIC._replace(update=True).script())
    assert _chains(_dump(namespace))["divert_forward"] == []  # an empty chain judges nothing


@pytest.mark.netns
@pytest.mark.parametrize("before", [BASIC, ZONES], ids=["zones-on", "zones-again"])
def test_an_update_adds_and_removes_the_ports_of_zones(namespace: Namespace, before: Case) -> None:
    for case in (before, ZONES._replace(update=True)):
        _load(namespace, case.script())
    with Namespace() as fresh:
        _load(fresh, ZONES.script())
        assert _objects(namespace) == _objects(fresh)
    _load(namespace, BASIC._replace(update=True).script())
    assert _chains(_dump(namespace))["zone_listed"] == []


@pytest.mark.netns
@pytest.mark.parametrize("before", [BASIC, PREFIXES], ids=["prefixes-on", "prefixes-again"])
def test_an_update_adds_and_removes_blocked_prefixes(namespace: Namespace, before: Case) -> None:
    for case in (before, PREFIXES._replace(update=True)):
        _load(namespace, case.script())
    with Namespace() as fresh:
        _load(fresh, PREFIXES.script())
        assert _objects(namespace) == _objects(fresh)
    _load(namespace, BASIC._replace(update=True).script())
    assert _chains(_dump(namespace))["blocked_prefix"] == []


def _objects(namespace: Namespace) -> list[str]:
    """Return the chains, sets and counters of the table, in one order."""
    return sorted(re.split(r"\n\n", _dump(namespace).partition("\n")[2].rstrip("}\n")))


def test_an_update_never_deletes_the_table() -> None:
    assert "delete table" not in UPDATE.script()
    assert "delete table" in BASIC.script()


@pytest.mark.netns
def test_interfaces_that_a_wildcard_covers_are_left_out(namespace: Namespace) -> None:
    """nft refuses them: conflicting intervals."""
    toml = b'[watch]\ninterfaces = ["eth*", "eth0", "et*", "lan", "eth0"]'
    script = Case("covered", config.parse(toml, "test"), []).script()
    _load(namespace, script, "-c")
    assert 'define watched_if = { "et*", "lan" }' in script


def test_networks_that_touch_are_joined() -> None:
    assert "198.18.4.0/23" in FILLED.script()


def _defines(case: Case) -> dict[str, str]:
    return dict(re.findall(r"^define (\w+) = (.*)$", case.script(), re.MULTILINE))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loopback_is_never_blocked(case: Case) -> None:
    assert "127.0.0.0/8" in _defines(case)["never_block4"]
    assert "::1/128" in _defines(case)["never_block6"]


@pytest.mark.netns
def test_elements_are_restored_into_a_new_table(namespace: Namespace) -> None:
    lines = ["block4 { 198.18.0.2 timeout 1h expires 30m }", "partner6 { 2001:2:: }"]
    _load(namespace, BASIC.script() + restore_elements(lines))
    assert re.search(
        r"198\.18\.0\.2 .*timeout 1h expires (30m|29m59s\d+ms)",
        namespace.run("nft", "list", "set", "inet", "sentryfw", "block4").stdout,
    )
    assert "2001:2::" in namespace.run("nft", "list", "set", "inet", "sentryfw", "partner6").stdout


# --- properties of every chain and rule


def _chains(listing: str) -> dict[str, list[str]]:
    """Return the rules of each chain of a listing, without their comments."""
    found = {}
    for name, lines in re.findall(
        r"^\tchain (\w+) \{\n(.*?)^\t\}", listing, re.MULTILINE | re.DOTALL
    ):
        rules = (re.sub(r' comment ".*"$', "", line.strip()) for line in lines.splitlines())
        found[name] = [rule for rule in rules if not rule.startswith("type ")]
    return found


_UNCONDITIONAL: Final = re.compile(
    r"(counter name \S+ |meta mark set meta mark . \S+ )*"
    r"(accept|drop|return|goto \w+|queue .*|reject.*|redirect .*)"
)


def _dead(listing: str) -> dict[str, list[str]]:
    """Return the rules of each chain that follow an unconditional verdict."""
    dead = {}
    for name, rules in _chains(listing).items():
        ends = [n for n, rule in enumerate(rules) if _UNCONDITIONAL.fullmatch(rule)]
        if ends and rules[ends[0] + 1 :]:
            dead[name] = rules[ends[0] + 1 :]
    return dead


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("rulesets/*.dump")), ids=lambda path: path.stem)
def test_no_rule_follows_an_unconditional_verdict(path: Path) -> None:
    listing = path.read_text()
    assert len(_chains(listing)) > 10
    assert _dead(listing) == {}


def test_a_rule_behind_an_unconditional_verdict_is_found() -> None:
    first = '\t\taccept comment "sentryfw: only traps are watched"\n'
    listing = BASIC.script().replace(
        "\tchain judge_half_open {\n", f"\tchain judge_half_open {{\n{first}"
    )
    assert list(_dead(listing)) == ["judge_half_open"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_chain_is_written_in_one_place(case: Case) -> None:
    """An option fills a chain of its own; it adds no rule to another file's chain."""
    written = [
        name
        for name, lines in re.findall(
            r"^\tchain (\w+) \{\n((?:\t\t.*\n)*)\t\}$", case.script(), re.MULTILINE
        )
        if lines
    ]
    assert sorted(set(written)) == sorted(written)
    assert not re.search(r"^(add|insert) (rule|element)", case.script(), re.MULTILINE)


MAX_LOOKUPS: Final = 3
"""Lookups that a SYN of a source in no set pays in early_drop, while there is no flood."""
_MATCH: Final = re.compile(r"(?P<what>[\w ]+?)(?: & [^@!=]+?)? (?P<negated>!= )?@(?P<set>\w+)")


def _lookups(listing: str, family: str) -> list[str]:
    """Return the sets in which a SYN that is in none is looked up in early_drop, in order."""
    found: list[str] = []
    _follow(_chains(listing), "early_drop", family, found)
    return found


def _follow(chains: dict[str, list[str]], name: str, family: str, found: list[str]) -> bool:
    """Append the lookups of a chain; return whether the SYN's way ends in it."""
    for rule in chains[name]:
        if not _is_for_syn(rule, family) or not _passes(rule, found):
            continue
        verdict = re.search(r"(accept|drop|return|goto|jump)(?: (\w+))?$", rule)
        assert verdict is not None, rule
        if verdict[1] == "return":
            return False
        if verdict[1] in ("accept", "drop"):
            return True
        is_over = _follow(chains, verdict[2], family, found)
        if is_over or verdict[1] == "goto":
            return is_over
    return False


def _is_for_syn(rule: str, family: str) -> bool:
    """Return whether a SYN of the family may match a rule, beside its lookups."""
    other = {"ip": "ip6", "ip6": "ip"}[family]
    if rule.startswith(("meta l4proto != tcp ", f"{other} ")) or "!= syn accept" in rule:
        return False
    return not (rule.startswith("meta nfproto ipv4") and family == "ip6")


def _passes(rule: str, found: list[str]) -> bool:
    """Append the lookups of a rule; return whether a packet in no set passes them."""
    for match in _MATCH.finditer(rule):
        found.append(match["set"])
        if not match["negated"]:
            return False
    return True


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_packet_in_no_set_pays_at_most_three_lookups_in_early_drop(
    case: Case, family: str
) -> None:
    found = _lookups(case.script(), family)
    assert len(found) <= MAX_LOOKUPS, found
    sources = {"ip": {"block4", "block_net4"}, "ip6": {"block6", "block_net6"}}
    assert sources[family] <= set(found)


def test_one_lookup_more_in_early_drop_is_found() -> None:
    more = '\t\tip6 saddr @fleet6 drop comment "sentryfw: one more"\n'
    head = "\t\tip saddr @block4 goto drop_early"
    listing = BASIC.script().replace(head, f"{more}{head}")
    assert _lookups(listing, "ip6") == ["flooded", "fleet6", "block6", "block_net6"]
    assert _lookups(listing, "ip") == ["flooded", "block4", "block_net4"]


def test_marks_and_masks_are_defines() -> None:
    """Their values come from netfilter/schema.py."""
    bare = [
        (name, rule)
        for name, rule in RULES
        if re.search(r"ffff:ffff|0x[0-9a-f]{2}|mark \d|5278|5277", rule)
    ]
    assert bare == []


def _words(rule: str) -> set[str]:
    """Return the words of a rule without its comment."""
    return set(re.sub(r'comment ".*"', "", rule).split())


def test_every_rule_that_drops_gives_its_reason() -> None:
    dropping = [(name, rule) for name, rule in RULES if "drop" in _words(rule)]
    assert len(dropping) > 10
    silent = [pair for pair in dropping if not re.search(r'comment "sentryfw: .+"$', pair[1])]
    assert silent == []


def test_every_rule_that_drops_counts() -> None:
    uncounted = [
        (name, rule)
        for name, rule in RULES
        if "drop" in _words(rule) and "counter" not in _words(rule)
    ]
    assert uncounted == []


def test_only_the_meters_drop_and_update_in_one_rule() -> None:
    """A full set ends a rule, and with it a drop behind an update."""
    both = [
        rule for _, rule in RULES if "drop" in _words(rule) and {"update", "add"} & _words(rule)
    ]
    found = [re.search(r"update (@\w+)", rule) for rule in both]
    assert [match[1] for match in found if match] == ["@held4", "@held6", "@meter4", "@meter6"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_base_chain_has_policy_accept(case: Case) -> None:
    policies = re.findall(r"policy (\w+);", case.script())
    assert policies
    assert set(policies) == {"accept"}


def test_every_ruleset_file_is_loaded() -> None:
    cases = (
        FILLED._replace(queue_statement=True), ROUTER, LAN, ZONES, REFUSING, AWAY, FLEET, PAIR,
        PREFIXES,
    )  # fmt: skip
    everything = "".join(case.script() for case in cases)
    for path in ruleset.directory().glob("*.nft"):
        assert path.read_text().splitlines()[0] in everything, path.name


@pytest.mark.parametrize(("trust", "case"), [("weigh", FLEET), ("full", PAIR)])
def test_crowdsec_alone_needs_the_rules_of_a_member(trust: str, case: Case) -> None:
    text = f'[fleet.crowdsec]\nurl = "http://127.0.0.1/"\ncredentials = "/k"\ntrust = "{trust}"'
    alone = Case("crowdsec", config.parse(text.encode(), "crowdsec"), [])
    assert alone.render() == case.render() != BASIC.render()
