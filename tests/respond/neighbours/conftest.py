"""A stand-in for CrowdSec's local API."""

from collections.abc import Iterator

import pytest

from sentryfw.respond.neighbours.lapi import Place
from support.lapi import FakeLapi
from support.reactions import Certificate


@pytest.fixture
def lapi(certificate: Certificate) -> Iterator[FakeLapi]:
    with FakeLapi(certificate) as made:
        yield made


@pytest.fixture
def place(lapi: FakeLapi, certificate: Certificate) -> Place:
    return Place(lapi.url, str(certificate.certificate), 5.0, "sentryfw", "pass")
