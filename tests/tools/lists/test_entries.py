"""Entries of a list: which are left out, and which places are bad."""

from ipaddress import ip_network

from sentryfw.tools.lists.entries import BadEntry, Reading, quoted


def test_networks_that_are_too_wide_and_addresses_of_no_host_are_left_out() -> None:
    reading = Reading()
    for text in (
        "0.0.0.0/1", "10.0.0.0/11", "2001::/28", "224.0.0.1", "127.0.0.1", "::", "ff02::1",
        "255.255.255.255", "0.1.2.3",
    ):  # fmt: skip
        reading.add("line 1", text)
    assert reading.found.entries == []
    assert reading.found.left_out == {
        "IPv4 networks wider than /12": 2, "IPv6 networks wider than /29": 1,
        "not an address of a host": 6,
    }  # fmt: skip


def test_the_widest_networks_are_taken() -> None:
    reading = Reading()
    for text in ("10.0.0.0/12", "2001::/29", "::ffff:192.0.2.1", "192.0.2.9/24"):
        reading.add("line 1", text)
    assert [str(entry.network) for entry in reading.found.entries] == [
        "10.0.0.0/12", "2001::/29", "192.0.2.1/32", "192.0.2.0/24",
    ]  # fmt: skip


def test_what_has_ended_is_left_out() -> None:
    reading = Reading()
    reading.add_network("line 1", ip_network("192.0.2.1"), 0.0)
    assert reading.found.left_out == {"their time is over": 1}


def test_a_bad_place_is_quoted_without_control_characters() -> None:
    assert str(BadEntry("line 3", "x")) == "line 3: x"
    assert "\x1b" not in quoted("\x1b[31m")
    assert len(quoted("x" * 1000)) < 70
