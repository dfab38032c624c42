"""The nf_tables codec: golden bytes, how the kernel and nft read them, and any bytes.

The golden files hold messages of a little-endian host: netlink's headers are in host order.
"""

import contextlib
import ipaddress
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.golden import GOLDEN, assert_golden
from support.headers import header_numbers, numbers_of

FOUR: Final = ipaddress.ip_address("198.18.0.2").packed
SIX: Final = ipaddress.ip_address("2001:2::").packed
HELD: Final = "sentryfw: held until the verdict"
CREATE: Final = nlmsg.NLM_F_CREATE
APPEND: Final = nlmsg.NLM_F_CREATE | nlmsg.NLM_F_APPEND

little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="golden bytes are little-endian")


class Case(NamedTuple):
    """A message and the equivalent nft command."""

    name: str
    nft: str
    made: bytes


def _element(name: str, key: bytes, timeout: float | None = None) -> bytes:
    return set_elements.set_element("sentryfw", name, key, timeout)


CASES: Final = (
    Case(
        "add_element4",
        "nft add element inet sentryfw block4 '{ 198.18.0.2 timeout 1h }'",
        nl.batch([(nl.NFT_MSG_NEWSETELEM, CREATE, _element("block4", FOUR, 3600))], 1),
    ),
    Case(
        "add_element6",
        "nft add element inet sentryfw block6 '{ 2001:2:: timeout 1500ms }'",
        nl.batch([(nl.NFT_MSG_NEWSETELEM, CREATE, _element("block6", SIX, 1.5))], 1),
    ),
    Case(
        "block4",
        "nft 'add element inet sentryfw block4 { 198.18.0.2 timeout 1h };"
        " delete element inet sentryfw block4 { 198.18.0.2 };"
        " add element inet sentryfw block4 { 198.18.0.2 timeout 1h }'",
        nl.batch(
            [
                (nl.NFT_MSG_NEWSETELEM, CREATE, _element("block4", FOUR, 3600)),
                (nl.NFT_MSG_DELSETELEM, 0, _element("block4", FOUR)),
                (nl.NFT_MSG_NEWSETELEM, CREATE, _element("block4", FOUR, 3600)),
            ],
            1,
        ),
    ),
    Case(
        "delete_element4",
        "nft delete element inet sentryfw block4 '{ 198.18.0.2 }'",
        nl.batch([(nl.NFT_MSG_DELSETELEM, 0, _element("block4", FOUR))], 1),
    ),
    Case(
        "get_element4",
        "nft get element inet sentryfw block4 '{ 198.18.0.2 }'",
        nl.nft(nl.NFT_MSG_GETSETELEM, _element("block4", FOUR), flags=nlmsg.NLM_F_ACK, sequence=1),
    ),
    Case(
        "list_set",
        "nft list set inet sentryfw block4",
        nl.nft(
            nl.NFT_MSG_GETSETELEM,
            nl.set_name("sentryfw", "block4"),
            flags=nlmsg.NLM_F_DUMP,
            sequence=1,
        ),
    ),
    Case(
        "queue_target_rule",
        "nft add rule inet sentryfw judge xt target NFQUEUE --queue-num 5277 --queue-bypass"
        f" comment '\"{HELD}\"' (nft itself cannot say it)",
        nl.batch(
            [
                (
                    nl.NFT_MSG_NEWRULE,
                    APPEND,
                    nl.queue_target_rule("sentryfw", "judge", 5277, HELD),
                )
            ],
            1,
        ),
    ),
    Case(
        "queue_rule",
        f"nft add rule inet sentryfw judge queue flags bypass to 5277 comment '\"{HELD}\"'",
        nl.batch([(nl.NFT_MSG_NEWRULE, APPEND, nl.queue_rule("sentryfw", "judge", 5277, HELD))], 1),
    ),
    Case(
        "check_table",
        "nft -c add table inet sentryfw_probe",
        nl.batch(
            [(nl.NFT_MSG_NEWTABLE, CREATE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw_probe"))],
            1,
            commit=False,
        ),
    ),
)
BY_NAME: Final = {case.name: case for case in CASES}

TABLE: Final = """
table inet sentryfw {
    comment "SentryFW schema 1"
    set block4 { type ipv4_addr; size 100; flags timeout; counter; }
    set block6 { type ipv6_addr; size 100; flags timeout; counter; }
    counter judged { packets 7 bytes 420 }
    chain judge { }
}
"""


# --- golden


def _as_hex(case: Case) -> str:
    lines = [case.made[at : at + 16].hex(" ", 4) for at in range(0, len(case.made), 16)]
    return "\n".join([f"# {case.nft}", *lines, ""])


def _from_hex(name: str) -> bytes:
    lines = (GOLDEN / "netlink" / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


@little_endian
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_messages_are_the_golden_bytes(case: Case) -> None:
    assert_golden(f"netlink/{case.name}.hex", _as_hex(case))


def test_every_golden_message_has_its_case() -> None:
    assert {path.stem for path in (GOLDEN / "netlink").glob("*.hex")} == set(BY_NAME)


# --- the golden bytes in the kernel


def _load_table(namespace: Namespace) -> None:
    _nft(namespace, TABLE)


def _nft(namespace: Namespace, *commands: str) -> str:
    done = namespace.run("nft", *commands)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _send(netlink: NfnetlinkSocket, data: bytes) -> list[nlmsg.Message]:
    """Return the kernel's answers to bytes, up to the acknowledgement or the dump's end."""
    netlink._send(data, "golden")
    answers: list[nlmsg.Message] = []
    while not answers or answers[-1].kind not in (nlmsg.NLMSG_ERROR, nlmsg.NLMSG_DONE):
        answers += nlmsg.messages(netlink._receive("golden"))
    return answers


def _errno(answers: list[nlmsg.Message]) -> int:
    return nlmsg.error_of(next(answer for answer in answers if answer.kind == nlmsg.NLMSG_ERROR))


@little_endian
@pytest.mark.netns
@pytest.mark.parametrize(
    ("name", "listed", "shown"),
    [
        ("add_element4", "block4", "elements = { 198.18.0.2 timeout 1h "),
        ("add_element6", "block6", "elements = { 2001:2:: timeout 1s500ms "),
        ("block4", "block4", "elements = { 198.18.0.2 timeout 1h "),
    ],
)
def test_nft_lists_the_element_that_was_added(
    namespace: Namespace, netlink: NfnetlinkSocket, name: str, listed: str, shown: str
) -> None:
    _load_table(namespace)
    assert _errno(_send(netlink, _from_hex(name))) == 0
    assert shown in re.sub(
        r"counter packets \d+ bytes \d+ ", "", _nft(namespace, f"list set inet sentryfw {listed}")
    )


@little_endian
@pytest.mark.netns
def test_blocking_again_gives_the_new_timeout(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _load_table(namespace)
    _nft(namespace, "add element inet sentryfw block4 { 198.18.0.2 timeout 10s }")
    assert _errno(_send(netlink, _from_hex("block4"))) == 0
    assert "timeout 1h" in _nft(namespace, "list set inet sentryfw block4")


@little_endian
@pytest.mark.netns
def test_a_deleted_element_is_gone(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    _load_table(namespace)
    _nft(namespace, "add element inet sentryfw block4 { 198.18.0.2, 198.18.0.3 }")
    assert _errno(_send(netlink, _from_hex("delete_element4"))) == 0
    listed = _nft(namespace, "list set inet sentryfw block4")
    assert "198.18.0.3" in listed
    assert "198.18.0.2" not in listed


@little_endian
@pytest.mark.netns
@pytest.mark.parametrize("name", ["get_element4", "list_set"])
def test_elements_are_read_as_nft_wrote_them(
    namespace: Namespace, netlink: NfnetlinkSocket, name: str
) -> None:
    _load_table(namespace)
    _nft(
        namespace,
        "add element inet sentryfw block4"
        " { 198.18.0.2 counter packets 3 bytes 180 timeout 1h expires 30m }",
    )
    answers = _send(netlink, _from_hex(name))
    kind = nl.NFNL_SUBSYS_NFTABLES << 8 | nl.NFT_MSG_NEWSETELEM
    elements = [
        e for answer in answers if answer.kind == kind for e in set_elements.elements_of(answer)
    ]
    assert [(e.key, e.timeout, e.packets, e.bytes) for e in elements] == [(FOUR, 3600.0, 3, 180)]
    assert 1700 < elements[0].expires <= 1800


@little_endian
@pytest.mark.netns
def test_nft_lists_the_queue_target(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    _load_table(namespace)
    assert _errno(_send(netlink, _from_hex("queue_target_rule"))) == 0
    listed = _nft(namespace, "--debug=netlink", "list chain inet sentryfw judge")
    assert "[ target name NFQUEUE rev 3 ]" in listed
    assert HELD in listed


@little_endian
@pytest.mark.netns
def test_nft_lists_the_queue_statement(
    namespace: Namespace, netlink: NfnetlinkSocket, *, has_queue_statement: bool
) -> None:
    if not has_queue_statement:
        pytest.skip("this kernel lacks CONFIG_NFT_QUEUE; nft's own bytes are compared instead")
    _load_table(namespace)
    assert _errno(_send(netlink, _from_hex("queue_rule"))) == 0
    listed = _nft(namespace, "list chain inet sentryfw judge")
    assert f'queue flags bypass to 5277 comment "{HELD}"' in listed


@little_endian
@pytest.mark.netns
def test_a_transaction_without_its_end_changes_nothing(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    assert _errno(_send(netlink, _from_hex("check_table"))) == 0
    assert _nft(namespace, "list tables") == ""


@pytest.mark.netns
def test_the_comment_and_counter_that_nft_wrote_are_read(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _load_table(namespace)
    [table] = netlink.request(nl.NFT_MSG_GETTABLE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw"), "table")
    userdata = nlmsg.attributes(table.body[4:])[nl.NFTA_TABLE_USERDATA]
    assert nl.comment_of(userdata) == "SentryFW schema 1"
    [counter] = netlink.dump(nl.NFT_MSG_GETOBJ, nl.text(nl.NFTA_OBJ_TABLE, "sentryfw"), "counters")
    fields = nlmsg.attributes(counter.body[4:])
    assert nlmsg.name_of(fields[nl.NFTA_OBJ_NAME]) == "judged"
    assert nl.counter_of(fields[nl.NFTA_OBJ_DATA]) == (7, 420)


def test_without_the_kernel_s_count_set_count_returns_none() -> None:
    name = nl.text(nl.NFTA_SET_NAME, "block4")
    assert nl.set_count(nlmsg.Message(0, 0, 0, bytes(4) + name)) is None
    counted = name + nl.u32(nl.NFTA_SET_COUNT, 70_000)
    assert nl.set_count(nlmsg.Message(0, 0, 0, bytes(4) + counted)) == 70_000


# --- the messages of nft itself


def _leaves(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of every attribute that holds a value and not attributes, depth first."""
    offset = 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 2], sys.byteorder)
        kind = int.from_bytes(data[offset + 2 : offset + 4], sys.byteorder)
        payload = data[offset + 4 : offset + size]
        if kind & nlmsg.NLA_F_NESTED:
            yield from _leaves(payload)
        else:
            yield kind, payload
        offset += size + (-size & 3)


def _leaves_nft_sends(namespace: Namespace, command: str, kind: int) -> list[tuple[int, bytes]]:
    """(type, payload) in the messages of a kind that nft prints under --debug=mnl."""
    shown = re.sub(r"\x1b\[[\d;]*m", "", namespace.run("nft", "--debug=mnl", command).stdout)
    number = f"{nl.NFNL_SUBSYS_NFTABLES << 8 | kind:05d}"
    found: list[tuple[int, bytes]] = []
    for message in shown.split("| message length |")[1:]:
        if f"| {number} |" in message:
            found += _printed_leaves(message.partition("|  extra header  |")[2])
    return found


def _printed_leaves(text: str) -> Iterator[tuple[int, bytes]]:
    for size, nesting, kind, data in re.findall(
        r"\|(\d+)\|(.)-\|(\d+)\|\t\|len \|flags\| type\|\n((?:\| [0-9a-f ]+\|\t\|      data.*\n)*)",
        text,
    ):
        if nesting == "-":
            payload = "".join(re.findall(r"^\| ([0-9a-f ]+)\|", data, re.MULTILINE))
            yield int(kind), bytes.fromhex(payload)[: int(size) - 4]


@pytest.mark.netns
@pytest.mark.parametrize(
    ("command", "kind", "body"),
    [
        (
            "add element inet sentryfw block4 { 198.18.0.2 timeout 1h }",
            nl.NFT_MSG_NEWSETELEM,
            _element("block4", FOUR, 3600),
        ),
        (
            "add element inet sentryfw block6 { 2001:2:: timeout 1s500ms }",
            nl.NFT_MSG_NEWSETELEM,
            _element("block6", SIX, 1.5),
        ),
        (
            "delete element inet sentryfw block4 { 198.18.0.2 }",
            nl.NFT_MSG_DELSETELEM,
            _element("block4", FOUR),
        ),
        (
            f'add rule inet sentryfw judge queue flags bypass to 5277 comment "{HELD}"',
            nl.NFT_MSG_NEWRULE,
            nl.queue_rule("sentryfw", "judge", 5277, HELD),
        ),
    ],
    ids=["add-element4", "add-element6", "delete-element", "queue-rule"],
)
def test_nft_sends_the_same_attributes(
    namespace: Namespace, command: str, kind: int, body: bytes
) -> None:
    _load_table(namespace)
    sent = Counter(_leaves_nft_sends(namespace, command, kind))
    ours = Counter(_leaves(body))
    assert not ours - sent
    # nft also sends the set's number within its transaction, where there is a set.
    assert {kind for kind, _ in sent - ours} <= {nl.NFTA_SET_ELEM_LIST_SET_ID}


# --- numbers


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(nl, r"NFT_|NFTA_|NFNL|NFPROTO_|NFQ_")
    headers = (
        "linux/netlink.h", "linux/netfilter.h", "linux/netfilter/nfnetlink.h",
        "linux/netfilter/nf_tables.h", "linux/netfilter/nf_tables_compat.h",
        "linux/netfilter/xt_NFQUEUE.h",
    )  # fmt: skip
    found = header_numbers(numbers, headers, tmp_path)
    assert numbers.items() >= found.items()
    assert numbers.keys() - found.keys() <= {"NFTA_SET_COUNT"}  # Linux 6.17


# --- any bytes

attribute_trees: st.SearchStrategy[bytes] = st.recursive(
    st.builds(nlmsg.attribute, st.integers(0, 15), st.binary(max_size=300)),
    lambda inner: st.builds(
        lambda kind, parts: nl.nested(kind, *parts),
        st.integers(0, 15),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)
"""Well-formed attributes, nested as the kernel nests them, with any payload."""


@st.composite
def _nearly_correct(draw: st.DrawFn) -> bytes:
    """A body with correct lengths, except perhaps one byte."""
    data = bytearray(4) + b"".join(draw(st.lists(attribute_trees, max_size=5)))
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def _element_replies(draw: st.DrawFn) -> bytes:
    """A reply to NFT_MSG_GETSETELEM with an element whose fields hold anything."""
    kinds = st.sampled_from(
        (nl.NFTA_SET_ELEM_KEY, nl.NFTA_SET_ELEM_TIMEOUT, nl.NFTA_SET_ELEM_EXPIRATION,
         nl.NFTA_SET_ELEM_EXPR, nl.NFTA_SET_ELEM_EXPRESSIONS)
    )  # fmt: skip
    payloads = st.one_of(st.binary(max_size=300), attribute_trees)
    fields = draw(st.lists(st.builds(nlmsg.attribute, kinds, payloads), max_size=5))
    item = nl.nested(nl.NFTA_LIST_ELEM, *fields)
    return bytes(4) + nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, item)


bodies = st.one_of(st.binary(max_size=400), _nearly_correct(), _element_replies())


def _reply(body: bytes) -> nlmsg.Message:
    return nlmsg.Message(0, 0, 0, body)


@pytest.mark.parametrize(
    "read",
    [
        lambda data: list(nlmsg.messages(data)),
        nlmsg.attributes,
        lambda data: list(nlmsg.attribute_list(data)),
        nl.counter_of,
        lambda data: nlmsg.error_of(_reply(data)),
        lambda data: list(set_elements.elements_of(_reply(data))),
    ],
    ids=["messages", "attributes", "attribute_list", "counter_of", "error_of", "elements_of"],
)
@given(data=bodies)
def test_any_bytes_are_read_or_malformed(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(nlmsg.MalformedMessage):
        read(data)


@given(userdata=st.binary(max_size=300))
def test_comments_and_names_of_any_bytes_are_text(userdata: bytes) -> None:
    comment = nl.comment_of(userdata)
    assert comment is None or isinstance(comment, str)
    assert isinstance(nlmsg.name_of(userdata), str)


def test_an_expiry_of_any_length_is_read_or_malformed() -> None:
    """A number of 200 bytes, which a float cannot hold, in place of eight bytes."""
    item = nl.nested(nl.NFTA_LIST_ELEM, nlmsg.attribute(nl.NFTA_SET_ELEM_TIMEOUT, b"\xff" * 200))
    body = bytes(4) + nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, item)
    with pytest.raises(nlmsg.MalformedMessage):
        list(set_elements.elements_of(_reply(body)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 15,
        (15).to_bytes(4, sys.byteorder) + bytes(12),
        (17).to_bytes(4, sys.byteorder) + bytes(12),
    ],
    ids=["shorter than a header", "length below a header", "length beyond the datagram"],
)
def test_messages_with_wrong_lengths_are_malformed(data: bytes) -> None:
    with pytest.raises(nlmsg.MalformedMessage):
        list(nlmsg.messages(data))


@pytest.mark.parametrize("size", [0, 3, 9], ids=["none", "below-header", "beyond-end"])
def test_attributes_with_wrong_lengths_are_malformed(size: int) -> None:
    with pytest.raises(nlmsg.MalformedMessage):
        nlmsg.attributes(size.to_bytes(2, sys.byteorder) + bytes(6))


# --- there and back


@given(pairs=st.dictionaries(st.integers(0, nlmsg.NLA_TYPE_MASK), st.binary(max_size=64)))
def test_attributes_round_trip(pairs: dict[int, bytes]) -> None:
    made = b"".join(nlmsg.attribute(kind, payload) for kind, payload in pairs.items())
    assert nlmsg.attributes(made) == pairs
    assert nlmsg.attributes(nlmsg.attributes(nl.nested(1, made))[1]) == pairs


@given(
    kinds=st.lists(st.integers(0, 255), min_size=1, max_size=5),
    body=attribute_trees,
    sequence=st.integers(1, 1 << 31),
)
def test_a_batch_is_read_back_in_order(kinds: list[int], body: bytes, sequence: int) -> None:
    made = nl.batch([(kind, nlmsg.NLM_F_CREATE, body) for kind in kinds], sequence)
    begin, *inner, end = nlmsg.messages(made)
    assert (begin.kind, end.kind) == (nl.NFNL_MSG_BATCH_BEGIN, nl.NFNL_MSG_BATCH_END)
    assert [message.kind & 0xFF for message in inner] == kinds
    assert all(message.body[4:] == body for message in inner)
    assert [message.sequence for message in (begin, *inner, end)] == list(
        range(sequence, sequence + len(kinds) + 2)
    )
    assert [bool(message.flags & nlmsg.NLM_F_ACK) for message in inner] == [
        *[False] * (len(kinds) - 1),
        True,
    ]


@given(
    key=st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    milliseconds=st.integers(1, 10 * 365 * 86_400_000),
)
def test_an_element_round_trips(key: bytes, milliseconds: int) -> None:
    body = set_elements.set_element("sentryfw", "block", key, milliseconds / 1000)
    [element] = set_elements.elements_of(_reply(bytes(4) + body))
    assert element == set_elements.Element(key, milliseconds / 1000, 0.0, 0, 0)


@given(comment=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40))
def test_a_rule_comment_round_trips(comment: str) -> None:
    fields = nlmsg.attributes(nl.rule("t", "c", "counter", b"", comment))
    assert nl.comment_of(fields[nl.NFTA_RULE_USERDATA]) == comment
