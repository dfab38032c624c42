"""The formats of lists by name, and bytes without any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.tools.lists import parse as module
from sentryfw.tools.lists.parse import FORMATS, Format, parse


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("plain", b"192.0.2.1"),
        ("nft", b"elements = { 192.0.2.1 }"),
        ("stix", b"""[{"type": "indicator", "pattern": "[ipv4-addr:value = '192.0.2.1']"}]"""),
        ("crowdsec", b'[{"type": "ban", "scope": "Ip", "value": "192.0.2.1"}]'),
    ],
)
def test_each_format_is_read(form: Format, data: bytes) -> None:
    assert [str(entry.network) for entry in parse(form, data, 0.0).entries] == ["192.0.2.1/32"]


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_without_text_have_their_line(form: Format) -> None:
    [bad] = parse(form, b"\n\n\xff", 0.0).bad
    assert str(bad) == "line 3: not UTF-8"


def test_a_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    [bad] = parse("plain", b"\n" * ((1 << 20) + 1), 0.0).bad
    assert bad.fault == "the list is longer than 1 MiB"


@given(st.sampled_from(FORMATS), st.binary())
def test_no_bytes_raise(form: Format, data: bytes) -> None:
    parse(form, data, 0.0)
