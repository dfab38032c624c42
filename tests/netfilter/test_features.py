"""What the kernel can do, asked in a transaction that is never committed."""

import errno
import struct
from typing import Any

import pytest

from sentryfw.errors import KernelError, NoPrivilege
from sentryfw.netfilter import features
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netns import Namespace

pytestmark = pytest.mark.netns

TABLE = nl.text(nl.NFTA_TABLE_NAME, "rehearsed")
CHAIN = nl.text(nl.NFTA_CHAIN_TABLE, "rehearsed") + nl.text(nl.NFTA_CHAIN_NAME, "c")
MADE = [
    (nl.NFT_MSG_NEWTABLE, nl.NLM_F_CREATE, TABLE),
    (nl.NFT_MSG_NEWCHAIN, nl.NLM_F_CREATE, CHAIN),
]


def _rule(expression: str) -> tuple[int, int, bytes]:
    body = nl.rule("rehearsed", "c", expression, b"", "")
    return nl.NFT_MSG_NEWRULE, nl.NLM_F_CREATE | nl.NLM_F_APPEND, body


def test_each_message_of_a_rehearsal_has_its_own_answer(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    rules = [_rule("no such expression"), _rule("counter"), _rule("ct")]
    codes = netlink.rehearse([*MADE, *rules], "rehearsal")
    assert codes == [0, 0, errno.ENOENT, 0, errno.EINVAL]
    assert namespace.run("nft", "list", "tables").stdout == ""
    assert netlink.rehearse(MADE, "once more") == [0, 0]


def test_the_kernel_is_asked_for_all_features_at_once(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    rehearse = NfnetlinkSocket.rehearse

    def counted(self: NfnetlinkSocket, *arguments: Any) -> list[int]:
        asked.append(arguments)
        return rehearse(self, *arguments)

    monkeypatch.setattr(NfnetlinkSocket, "rehearse", counted)
    found = {feature.name: feature.present for feature in namespace.call(features.probe)}
    assert len(asked) == 1
    assert len(found) == 7
    assert found["ct expression"]
    assert found["nftables inet tables"]


def test_without_inet_tables_nothing_that_needs_them_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = [errno.EOPNOTSUPP, errno.ENOENT, *[errno.ENOENT] * 6]
    monkeypatch.setattr(NfnetlinkSocket, "rehearse", lambda *_: codes)
    found = features.probe()
    assert [feature.present for feature in found] == [False] * 7
    assert all("not supported" in feature.detail for feature in found)


def test_a_rehearsal_refused_as_a_whole_is_an_error(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(code: int) -> bytes:
        begin = netlink._sequence - len(MADE) - 1
        return struct.pack("=IHHIIi", 20, nl.NLMSG_ERROR, 0, begin, 0, -code)

    for code, error in ((errno.EPERM, NoPrivilege), (errno.EOPNOTSUPP, KernelError)):
        monkeypatch.setattr(netlink, "_receive", lambda _, code=code: answer(code))
        with pytest.raises(error):
            netlink.rehearse(MADE, "rehearsal")
