"""Messages of the decoy process, which the daemon trusts only as far as it can check them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.decoy.wire import (
    CONNECTED,
    MAX_PAYLOAD,
    MESSAGE,
    PAYLOAD,
    REQUEST,
    Visit,
    decode,
    encode,
    shown,
)

PORTS = [(23, 23), (100, 200)]
FOUR = (bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1]))
SIX = (bytes.fromhex("20010db8000a000b0000000000000001"), bytes.fromhex("20010db8ffff") + bytes(10))
VISIT = Visit(CONNECTED, FOUR[0], 40000, FOUR[1], 23)


@pytest.mark.parametrize(
    "visit",
    [
        VISIT,
        VISIT._replace(kind=PAYLOAD, payload=b"GET /"),
        VISIT._replace(kind=REQUEST),
        VISIT._replace(source=SIX[0], target=SIX[1], port=200),
        VISIT._replace(kind=PAYLOAD, payload=bytes(range(256))),
    ],
    ids=["connected", "payload", "request", "ipv6", "full"],
)
def test_a_visit_is_decoded_as_it_was_encoded(visit: Visit) -> None:
    message = encode(visit)
    assert len(message) == MESSAGE.size
    assert decode(message, PORTS) == visit


def test_a_long_payload_is_cut() -> None:
    found = decode(encode(VISIT._replace(payload=b"x" * 1000)), PORTS)
    assert found is not None
    assert found.payload == b"x" * MAX_PAYLOAD


@pytest.mark.parametrize(
    "message",
    [
        b"",
        encode(VISIT)[:-1],
        encode(VISIT) + b"x",
        b"\x04" + encode(VISIT)[1:],
        b"\x01\x05" + encode(VISIT)[2:],
        encode(VISIT._replace(port=22)),
        encode(VISIT._replace(source=bytes(4))),
        encode(VISIT._replace(source=bytes([127, 0, 0, 1]))),
        encode(VISIT._replace(source=bytes([224, 0, 0, 1]))),
        encode(VISIT)[:6] + b"\xff\xff" + encode(VISIT)[8:],
    ],
    ids=["empty", "short", "long", "kind", "family", "no-decoy", "unspecified", "loopback",
         "multicast", "length"],
)  # fmt: skip
def test_a_message_that_is_not_valid_is_refused(message: bytes) -> None:
    assert decode(message, PORTS) is None


@given(
    st.binary(max_size=MESSAGE.size + 8) | st.binary(min_size=MESSAGE.size, max_size=MESSAGE.size)
)
def test_no_message_raises(message: bytes) -> None:
    visit = decode(message, [(0, 65535)])
    assert visit is None or len(visit.payload) <= MAX_PAYLOAD


@given(st.binary(max_size=MAX_PAYLOAD))
def test_a_payload_is_shown_as_printable_ascii_without_loss(payload: bytes) -> None:
    text = shown(payload)
    assert text.isascii()
    assert text.isprintable()
    assert text.encode().decode("unicode_escape").encode("latin-1") == payload
