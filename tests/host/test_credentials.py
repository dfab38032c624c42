"""Files with secrets: which are refused, and that no error quotes them."""

from pathlib import Path

import pytest

from sentryfw.errors import ReactionFailed
from sentryfw.host.credentials import read_secrets

SECRET = "correct horse"  # noqa: S105 - of a test


def test_the_keys_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f'token = "{SECRET}"\n')
    path.chmod(0o600)
    assert read_secrets(path) == {"token": SECRET}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(f'token = "{SECRET}"\n')
    path.chmod(mode)
    with pytest.raises(ReactionFailed, match="mode 0600"):
        read_secrets(path)


@pytest.mark.parametrize("text", [f"token = {SECRET}", f'token = "{SECRET}', "\xff"])
def test_no_error_quotes_the_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(ReactionFailed, match="not valid TOML") as caught:
        read_secrets(path)
    assert "horse" not in str(caught.value)


def test_a_link_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    for name in ("link", "missing"):
        with pytest.raises(ReactionFailed, match=name):
            read_secrets(tmp_path / name)
