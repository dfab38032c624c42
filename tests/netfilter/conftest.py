"""Namespaces with tables in them, and whether this kernel has the queue statement."""

from collections.abc import Iterator

import pytest

from sentryfw.netfilter import features
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netns import Namespace


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    """A netlink socket that speaks to the namespace's nf_tables."""
    with namespace.call(NfnetlinkSocket) as made:
        yield made


@pytest.fixture
def has_queue_statement(namespace: Namespace) -> bool:
    probed = namespace.call(features.probe)
    return next(feature.present for feature in probed if feature.name == "queue statement")
