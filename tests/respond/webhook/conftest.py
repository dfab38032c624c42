"""A certificate for 127.0.0.1, and an HTTPS server with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.https import HttpsServer
from support.reactions import Certificate, Results


@pytest.fixture
def server(certificate: Certificate) -> Iterator[HttpsServer]:
    with HttpsServer(certificate) as made:
        yield made


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text('token = "s3cret-token"\n')
    path.chmod(0o600)
    return path


@pytest.fixture
def results() -> Results:
    return Results()
