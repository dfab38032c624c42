"""Features of the kernel, probed in a transaction that is never committed."""

import errno
from typing import Any

import pytest

from sentryfw.errors import Unsupported
from sentryfw.netfilter import features
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = pytest.mark.netns


def test_all_features_are_probed_in_one_transaction(
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


def test_without_inet_tables_every_feature_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = [errno.EOPNOTSUPP, errno.ENOENT, *[errno.ENOENT] * 6]
    monkeypatch.setattr(NfnetlinkSocket, "rehearse", lambda *_: codes)
    found = features.probe()
    assert [feature.present for feature in found] == [False] * 7
    assert all("not supported" in feature.detail for feature in found)


@pytest.mark.parametrize(
    ("present", "way"),
    [(("queue statement", "xt NFQUEUE target"), "queue"), (("xt NFQUEUE target",), "xt-nfqueue")],
    ids=["both", "target-only"],
)
def test_the_queue_statement_is_preferred(present: tuple[str, ...], way: str) -> None:
    found = [
        features.Feature(name, name in present, "", "")
        for name in ("queue statement", "xt NFQUEUE target")
    ]
    assert features.pick_divert(found)[0] == features.require(found) == way


def test_without_a_way_into_the_queue_the_kernel_is_unsupported() -> None:
    found = [
        features.Feature(name, present=False, option="", detail="")
        for name in ("queue statement", "xt NFQUEUE target")
    ]
    with pytest.raises(Unsupported, match="load one of the modules"):
        features.require(found)


def test_a_missing_feature_is_named_with_its_option() -> None:
    found = [features.Feature("fib expression", present=False, option="CONFIG_X", detail="why")]
    with pytest.raises(Unsupported, match=r"lacks the fib expression \(CONFIG_X\): why"):
        features.require(found)
