"""Messages on a UNIX socket."""

import io

import pytest

from sentryfw.control.framing import encode, read


@pytest.mark.parametrize("message", [{}, {"do": "list", "text": "ä\n\x7f"}, {"a": [1, None]}])
def test_a_message_is_one_line_and_is_read_back(message: dict[str, object]) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert read(io.BytesIO(line + b'{"next": 1}\n'), 1000) == message


def test_the_end_of_the_stream_is_not_a_message() -> None:
    assert read(io.BytesIO(b""), 1000) is None


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b"null\n", b"\xff\n", b'{"a": 1', b"[" * 100_000]
)
def test_other_lines_are_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own text
        read(io.BytesIO(line), 1 << 20)


def test_a_message_beyond_the_limit_is_a_value_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own text
        read(io.BytesIO(encode({"text": "x" * 100})), 50)
