"""GET /metrics over a UNIX socket and loopback, without a daemon."""

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from sentryfw.daemon.metrics import endpoint
from sentryfw.daemon.metrics.endpoint import MAX_CLIENTS, MAX_REQUEST_BYTES, Endpoint
from sentryfw.errors import SentryError


async def text() -> str:
    return "sentryfw_up 1\n"


async def request(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def serve(path: Path, during: Any) -> Endpoint:
    """Serve on `path` while `during()` runs."""

    async def run() -> Endpoint:
        made = Endpoint(path, text)
        await made.start()
        try:
            await during()
        finally:
            made.stop()
        return made

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        (b"GET /metrics?x=y HTTP/1.0\r\n\r\n", "200 OK"),
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
    ],
    ids=repr,
)
def test_a_request_has_its_status(tmp_path: Path, line: bytes, status: str) -> None:
    async def during() -> None:
        answer = (await request(tmp_path / "x", line)).decode()
        head, _, body = answer.partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status}\r\n")
        assert f"Content-Length: {len(body)}\r\n" in head
        assert (body == "sentryfw_up 1\n") == status.startswith("200")

    made = serve(tmp_path / "x", during)
    assert made.scrapes == status.startswith("200")


def test_head_has_no_body(tmp_path: Path) -> None:
    async def during() -> None:
        answer = await request(tmp_path / "x", b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert b"Content-Length: 14\r\n" in answer

    serve(tmp_path / "x", during)


def test_too_long_a_request_is_not_answered(tmp_path: Path) -> None:
    async def during() -> None:
        assert await request(tmp_path / "x", b"x" * (2 * MAX_REQUEST_BYTES)) == b""
        assert b"200 OK" in await request(tmp_path / "x", b"GET /metrics HTTP/1.1\r\n\r\n")

    serve(tmp_path / "x", during)


def test_silent_clients_are_limited_and_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CLIENT_TIMEOUT_S", 0.1)

    async def during() -> None:
        silent = [await asyncio.open_unix_connection(tmp_path / "x") for _ in range(MAX_CLIENTS)]
        assert await request(tmp_path / "x", b"") == b""
        assert [await reader.read() for reader, _ in silent] == [b""] * MAX_CLIENTS
        for _, writer in silent:
            writer.close()
        assert b"200 OK" in await request(tmp_path / "x", b"GET /metrics HTTP/1.1\r\n\r\n")

    serve(tmp_path / "x", during)


def test_silent_clients_do_not_keep_a_scraper_out(tmp_path: Path) -> None:
    """The oldest of them goes; a client that has asked is answered to the end."""

    async def during() -> None:
        silent = [await asyncio.open_unix_connection(tmp_path / "x") for _ in range(MAX_CLIENTS)]
        for _ in range(3):
            assert b"200 OK" in await request(tmp_path / "x", b"GET /metrics HTTP/1.1\r\n\r\n")
        assert await silent[0][0].read() == b""
        silent[-1][1].write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"200 OK" in await silent[-1][0].read()
        for _, writer in silent:
            writer.close()

    serve(tmp_path / "x", during)


def test_clients_that_wait_for_their_answer_are_not_dismissed(tmp_path: Path) -> None:
    async def during() -> None:
        ready, asked = asyncio.Event(), 0

        async def slow() -> str:
            nonlocal asked
            asked += 1
            await ready.wait()
            return "sentryfw_up 1\n"

        server = Endpoint(tmp_path / "y", slow)
        await server.start()
        line = b"GET /metrics HTTP/1.1\r\n\r\n"
        made = [asyncio.create_task(request(tmp_path / "y", line)) for _ in range(MAX_CLIENTS)]
        while asked < MAX_CLIENTS:  # noqa: ASYNC110 - the text is asked for by the server
            await asyncio.sleep(0.01)
        assert await request(tmp_path / "y", line) == b"", "there is no room"
        ready.set()
        assert all(b"200 OK" in answer for answer in await asyncio.gather(*made))
        server.stop()

    asyncio.run(during())


def test_the_socket_is_for_the_group_and_is_removed(tmp_path: Path) -> None:
    async def during() -> None:
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o660

    serve(tmp_path / "x", during)
    assert not (tmp_path / "x").exists()


def test_the_socket_of_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "x"))

    async def during() -> None:
        assert b"200 OK" in await request(tmp_path / "x", b"GET /metrics HTTP/1.1\r\n\r\n")

    serve(tmp_path / "x", during)


async def nothing() -> None:
    """Do nothing while the endpoint serves."""


def test_a_file_in_its_place_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("kept")
    with pytest.raises(SentryError, match="exists and is not a socket"):
        serve(tmp_path / "x", nothing)
    assert (tmp_path / "x").read_text() == "kept"


def test_a_directory_that_other_users_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    with pytest.raises(SentryError, match="other users may write there"):
        serve(tmp_path / "d" / "x", nothing)


def test_an_address_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        made = Endpoint(("127.0.0.1", port), text)
        with pytest.raises(SentryError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            asyncio.run(made.start())
