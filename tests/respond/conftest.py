"""Fixtures: reported results, and a certificate for a server on 127.0.0.1."""

from pathlib import Path

import pytest

from support.reactions import Certificate, Results, make_certificate


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory: Path = tmp_path_factory.mktemp("certificate")
    return make_certificate(directory)
