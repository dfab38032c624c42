"""Netlink sockets: transactions, rehearsals, dumps, and notifications that are lost."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from sentryfw.errors import KernelError, NoPrivilege
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.socket import NETLINK_NETFILTER, NfnetlinkSocket, NotificationSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = pytest.mark.netns

TABLE = nl.text(nl.NFTA_TABLE_NAME, "tried")
CHAIN = nl.text(nl.NFTA_CHAIN_TABLE, "tried") + nl.text(nl.NFTA_CHAIN_NAME, "c")
MADE = [
    (nl.NFT_MSG_NEWTABLE, nlmsg.NLM_F_CREATE, TABLE),
    (nl.NFT_MSG_NEWCHAIN, nlmsg.NLM_F_CREATE, CHAIN),
]


def _rule(expression: str) -> nl.NftRequest:
    body = nl.rule("tried", "c", expression, b"", "")
    return nl.NFT_MSG_NEWRULE, nlmsg.NLM_F_CREATE | nlmsg.NLM_F_APPEND, body


def _tables(namespace: Namespace) -> str:
    return namespace.run("nft", "list", "tables").stdout


# --- transactions


def test_a_transaction_is_applied_as_a_whole(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    netlink.transact(MADE, "table")
    assert _tables(namespace) == "table inet tried\n"
    delete = (nl.NFT_MSG_DELTABLE, 0, TABLE)
    with pytest.raises(KernelError, match="rules") as refused:
        netlink.transact([delete, _rule("counter")], "rules")
    assert refused.value.code == errno.ENOENT
    assert _tables(namespace) == "table inet tried\n"


def test_a_transaction_without_a_commit_changes_nothing(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    netlink.transact(MADE, "table", commit=False)
    assert _tables(namespace) == ""


def test_each_request_of_a_rehearsal_gets_its_own_answer(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    rules = [_rule("no such expression"), _rule("counter"), _rule("ct")]
    codes = netlink.rehearse([*MADE, *rules], "rehearsal")
    assert codes == [0, 0, errno.ENOENT, 0, errno.EINVAL]
    assert _tables(namespace) == ""
    assert netlink.rehearse(MADE, "once more") == [0, 0]


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EPERM, NoPrivilege), (errno.EOPNOTSUPP, KernelError)]
)
def test_a_rehearsal_refused_as_a_whole_raises(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def answer(_: str) -> bytes:
        begin = netlink._sequence - len(MADE) - 1
        return struct.pack("=IHHIIi", 20, nlmsg.NLMSG_ERROR, 0, begin, 0, -code)

    monkeypatch.setattr(netlink, "_receive", answer)
    with pytest.raises(error):
        netlink.rehearse(MADE, "rehearsal")


def test_a_missing_answer_is_a_timeout(netlink: NfnetlinkSocket) -> None:
    netlink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 0, 1000))
    with pytest.raises(KernelError, match="nothing") as raised:
        netlink._receive("nothing")
    assert raised.value.code == errno.ETIMEDOUT


# --- queries


def test_a_request_yields_one_object_and_a_dump_all(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    namespace.run("nft", "add table inet tried; add table inet other; add table ip tried")
    [reply] = netlink.request(nl.NFT_MSG_GETTABLE, TABLE, "table")
    assert nlmsg.name_of(nlmsg.attributes(reply.body[4:])[nl.NFTA_TABLE_NAME]) == "tried"
    assert len(list(netlink.dump(nl.NFT_MSG_GETTABLE, b"", "tables"))) == 2
    with pytest.raises(KernelError) as raised:
        list(netlink.request(nl.NFT_MSG_GETTABLE, nl.text(nl.NFTA_TABLE_NAME, "none"), "table"))
    assert raised.value.code == errno.ENOENT


def test_ask_each_returns_an_answer_for_each_object_that_exists(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    namespace.run(
        "nft", "add table inet tried; add set inet tried s { type ipv4_addr; };"
        " add element inet tried s { 0.0.0.1, 0.0.0.3 }",
    )  # fmt: skip
    queries = set_elements.key_queries(n.to_bytes(4) for n in range(5))
    start = nl.set_name("tried", "s")
    found = netlink.ask_each(nl.NFT_MSG_GETSETELEM, start, queries, "elements")
    assert [bool(answer) for answer in found] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [([1, 3], 2), ([1, 3, 0, 1], 2), ([0, 1], 0), ([1] * 300, 300), ([1] * 299 + [0], 299)],
    ids=["all", "one-absent", "first-absent", "many", "last-absent"],
)
def test_ask_all_returns_the_answers_up_to_the_first_absent_object(
    namespace: Namespace, netlink: NfnetlinkSocket, asked: list[int], answered: int
) -> None:
    namespace.run(
        "nft", "add table inet tried; add set inet tried s { type ipv4_addr; };"
        " add element inet tried s { 0.0.0.1, 0.0.0.3 }",
    )  # fmt: skip
    netlink.grow(1 << 22)
    listed = nl.set_name("tried", "s") + set_elements.key_list([n.to_bytes(4) for n in asked])
    for _ in range(2):  # nothing is left for the next question
        found = netlink.ask_all(nl.NFT_MSG_GETSETELEM, listed, len(asked), "elements")
        keys = [
            element.key
            for data in found
            for message in nlmsg.messages(data)
            for element in set_elements.elements_of(message)
        ]
        assert keys == [n.to_bytes(4) for n in asked[:answered]]


# --- notifications


@pytest.fixture
def notifications(namespace: Namespace) -> Iterator[NotificationSocket]:
    made = namespace.call(lambda: NotificationSocket(NETLINK_NETFILTER))
    made.join(nl.NFNLGRP_NFTABLES)
    yield made
    made.close()


def _kinds(notifications: NotificationSocket) -> list[int]:
    return [
        message.kind & 0xFF
        for data in notifications.receive()
        for message in nlmsg.messages(data or b"")
    ]


def test_notifications_of_a_group_are_received_until_it_is_left(
    netlink: NfnetlinkSocket, notifications: NotificationSocket
) -> None:
    assert _kinds(notifications) == []
    netlink.transact(MADE, "table")
    assert _kinds(notifications) == [
        nl.NFT_MSG_NEWTABLE, nl.NFT_MSG_NEWCHAIN, nl.NFT_MSG_NEWGEN,
    ]  # fmt: skip
    notifications.leave(nl.NFNLGRP_NFTABLES)
    netlink.transact([(nl.NFT_MSG_DELTABLE, 0, TABLE)], "delete")
    assert _kinds(notifications) == []


def test_drained_notifications_are_gone(
    netlink: NfnetlinkSocket, notifications: NotificationSocket
) -> None:
    netlink.transact(MADE, "table")
    notifications.drain()
    assert _kinds(notifications) == []


def test_lost_notifications_are_none_in_their_place(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    small = namespace.call(lambda: NotificationSocket(NETLINK_NETFILTER, buffer_bytes=1))
    small.join(nl.NFNLGRP_NFTABLES)
    for _ in range(50):
        netlink.transact([*MADE, (nl.NFT_MSG_DELTABLE, 0, TABLE)], "table")
    assert None in list(small.receive())
    small.close()
