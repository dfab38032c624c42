"""The ends of blocks, in parts that may change while somebody looks through them."""

from ipaddress import ip_address

import pytest

from sentryfw.memory import PARTS, Ends, by_set, text

KEYS = [ip_address(name).packed for name in ("198.51.100.1", "2001:db8:1::", "fe80::5")]


@pytest.fixture
def ends() -> Ends:
    made = Ends()
    for number, key in enumerate(KEYS):
        made[key] = (3600.0, 100.0 + number)
    return made


def test_what_was_set_is_found_until_it_is_taken(ends: Ends) -> None:
    assert len(ends) == len(KEYS)
    assert ends.get(KEYS[1]) == (3600.0, 101.0)
    assert KEYS[1] in ends
    assert ends.pop(KEYS[1]) == (3600.0, 101.0)
    assert ends.pop(KEYS[1]) is None
    assert KEYS[1] not in ends
    assert dict(ends.items()) == {KEYS[0]: (3600.0, 100.0), KEYS[2]: (3600.0, 102.0)}


def test_a_look_bears_what_changes_meanwhile() -> None:
    ends = Ends()
    for number in range(10 * PARTS):
        ends[number.to_bytes(4)] = (60.0, 60.0)
    seen = 0
    for part in ends.parts():
        for key in part:
            seen += 1
            ends.pop(key)
            ends[b"\xff" + key[1:]] = (60.0, 60.0)
    assert seen >= 10 * PARTS


def test_parts_are_of_one_size_whatever_the_addresses() -> None:
    ends = Ends()
    for number in range(100 * PARTS):
        ends[(number << 8).to_bytes(4)] = (60.0, 60.0)  # one address of each /24
    assert max(map(len, ends.parts())) < 200


def test_only_what_has_not_ended_is_alive(ends: Ends) -> None:
    ends[ip_address("198.51.100.2").packed] = (0.0, 0.0)  # until it is unblocked
    assert ends.alive(100.5) == {4: 1, 6: 2}
    assert ends.alive(99.0) == {4: 2, 6: 2}


def test_what_is_cleared_is_handed_over(ends: Ends) -> None:
    old = ends.clear()
    assert len(ends) == 0
    assert sum(map(len, old)) == len(KEYS)


def test_keys_go_by_their_set_and_read_as_an_operator_writes_them() -> None:
    assert by_set(KEYS) == {"block4": KEYS[:1], "block6": KEYS[1:]}
    assert [text(key) for key in KEYS] == ["198.51.100.1", "2001:db8:1::/64", "fe80::5"]
