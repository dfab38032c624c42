"""The peer of a UNIX socket, and what it may do."""

import os
import socket

import pytest

from sentryfw.control import peer as module
from sentryfw.control.peer import Peer, peer_of, readers_group


def test_the_kernel_reports_user_and_groups() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = peer_of(ours)
    assert found.uid == os.geteuid()
    assert os.getegid() in found.groups


def test_root_and_the_daemons_own_user_may_change() -> None:
    assert Peer(0, frozenset()).may_change
    assert Peer(os.geteuid(), frozenset()).may_read
    assert not Peer(os.geteuid() + 1, frozenset()).may_change


def test_the_readers_group_may_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getegid", lambda: 4242)
    assert readers_group() == 4242
    member = Peer(os.geteuid() + 1, frozenset({4242}))
    assert (member.may_read, member.may_change) == (True, False)
    assert not Peer(os.geteuid() + 1, frozenset({7})).may_read


def test_a_daemon_of_group_root_has_no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getegid", lambda: 0)
    assert readers_group() is None
    assert not Peer(os.geteuid() + 1, frozenset({0})).may_read
