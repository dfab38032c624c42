"""Invitations: one word there and back, and anything else is refused with one sentence."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.errors import UsageError
from sentryfw.setup.fleet.authority import Credential
from sentryfw.setup.fleet.invitation import MARK, Access, Invitation, decode

KEY = "ab" * 32
ACCESS = Access("fw2", "rediss://192.0.2.1:6380", "-----CA\n", Credential("C\n", "K\n"), "secret")
WHOLE = Invitation({"fw1": KEY}, ACCESS)


def packed(fields: object) -> str:
    return MARK + base64.urlsafe_b64encode(zlib.compress(json.dumps(fields).encode())).decode()


def fields(**changes: Any) -> dict[str, Any]:
    access = {**ACCESS._asdict(), "credential": ACCESS.credential._asdict(), **changes}
    return {"v": 1, "members": {"fw1": KEY}, "access": access}


@pytest.mark.parametrize("made", [WHOLE, Invitation({"fw1": KEY}, None)])
def test_one_word_there_and_back(made: Invitation) -> None:
    word = made.encode()
    assert word.split() == [word]
    assert "'" not in word
    assert decode(f"\n {word[:30]}\n{word[30:]} \n") == made
    assert decode(packed(fields())) == WHOLE


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", MARK, WHOLE.encode()[:-9], WHOLE.encode() + "AAAA", MARK + "ä",
        packed([]), packed({"v": 1}), packed({"v": 1, "members": {"FW": KEY}}),
        packed({"v": 1, "members": {"fw1": "ab"}}), packed({"v": 1, "members": 7}),
        packed(fields(url="http://x")), packed(fields(name="a b")), packed(fields(more="x")),
        packed(fields(password="a\nb")), packed(fields(password=7)),  # noqa: S106 - none
        packed(fields(credential=1)),
        packed(fields(authority="ä")), MARK + "A" * 300_000,
        MARK + base64.urlsafe_b64encode(zlib.compress(b" " * (2 << 20))).decode(),
        packed("[" * 100_000),
    ],
)  # fmt: skip
def test_another_text_is_refused_with_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="this is not an invitation"):
        decode(text)


def test_another_version_is_named() -> None:
    with pytest.raises(UsageError, match="another version"):
        decode(packed({"v": 2, "members": {}}))


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_text_ends_in_another_error(given_text: str | bytes) -> None:
    text = (
        given_text if isinstance(given_text, str)
        else MARK + base64.urlsafe_b64encode(zlib.compress(given_text)).decode()
    )  # fmt: skip
    with pytest.raises(UsageError):
        decode(text)
