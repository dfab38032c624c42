"""LuCI's view in Chromium, against a stub of LuCI and an rpcd that obeys our ACL."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from support.box import Box
from support.browser import Browser
from support.luci import MENU, URL, Luci, is_permitted
from support.pages import HOSTILE, SCANNER, SOON_S, blocked, remember
from support.waiting import wait_for

ALL: Final = ("read", "write")
Show = Callable[..., Browser]


@pytest.fixture
def shown(guarded: Box) -> Iterator[Show]:
    with ExitStack() as stack:

        def show(rights: tuple[str, ...] = ALL, language: str = "en") -> Browser:
            command = guarded.launch("-c", guarded.config)
            stack.enter_context(Luci(guarded.namespace, command, rights, language))
            browser = stack.enter_context(Browser(guarded.namespace))
            browser.open(URL)
            return browser

        yield show


@pytest.mark.web
@pytest.mark.netns
def test_the_view_shows_blocks_and_unblocks_after_a_question(guarded: Box, shown: Show) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = shown()
    assert page.wait_text("#state", "Guarding") == "Guarding"
    for part in (SCANNER, "portscan syn", "masscan", "could be forged"):
        assert part in page.text("#blocks")
    page.press("Unblock", "#blocks")
    page.wait_text("#modal", f"Unblock {SCANNER}?")
    page.press("Cancel", "#modal")
    assert SCANNER in blocked(guarded)
    page.press("Unblock", "#blocks")
    page.press(f"Unblock {SCANNER}?", "#modal")
    wait_for(lambda: SCANNER not in blocked(guarded), "it is unblocked", SOON_S)
    page.wait_text("#view", "Nothing is blocked.", SOON_S)


@pytest.mark.web
@pytest.mark.netns
def test_an_address_is_explained_and_allowed(guarded: Box, shown: Show) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = shown()
    page.type("#searched", SCANNER)
    page.click("#explain")
    page.wait_text("#modal #because", "3 targets within 300 s", SOON_S)
    assert "tcp/25" in page.text("#story")
    page.press("Close", "#modal")
    page.press("Allow", "#blocks")
    page.press(f"Never block {SCANNER}?", "#modal")
    page.wait_text("#notes", f"{SCANNER} is never blocked", SOON_S)
    [row] = json.loads(guarded.sentryfw("allow", "list", "--json").stdout)
    assert (row["network"], row["comment"]) == (f"{SCANNER}/32", "LuCI")


@pytest.mark.web
@pytest.mark.netns
def test_the_view_in_german(guarded: Box, shown: Show) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = shown(language="de")
    assert page.wait_text("#state", "Schützt") == "Schützt"
    for part in (SCANNER, "portscan syn", "fälschbar", "Endet in", "gesperrt", "Min."):
        assert part in page.text("#blocks")
    for part in ("Portscans", "Zurzeit gesperrt: 1", "verworfene Pakete: "):
        assert part in page.text("#view")
    page.press("Warum", "#blocks")
    page.wait_text("#story", "Sonde, die zur Sperre führte", SOON_S)
    assert page.run("return document.querySelector('#because').lang") == "en"
    page.press("Schließen", "#modal")
    page.press("Freigeben", "#blocks")
    page.press(f"{SCANNER} freigeben?", "#modal")
    page.wait_text("#notes", f"{SCANNER} ist freigegeben", SOON_S)
    assert SCANNER not in blocked(guarded)
    page.wait_text("#view", "Nichts ist gesperrt.", SOON_S)


@pytest.mark.web
@pytest.mark.netns
def test_hostile_text_is_text_in_luci(guarded: Box, shown: Show) -> None:
    guarded.add_block(SCANNER)
    remember(guarded, tool=HOSTILE, reason=HOSTILE, scan=HOSTILE, kinds=[HOSTILE])
    page = shown()
    page.wait_text("#blocks", "onerror")
    page.press("Why", "#blocks")
    page.wait_text("#story", "onerror", SOON_S)
    assert page.run("return window.hacked ?? null") is None
    assert page.all("img") == []


@pytest.mark.web
@pytest.mark.netns
def test_a_reader_cannot_change_anything(guarded: Box, shown: Show) -> None:
    guarded.add_block(SCANNER)
    page = shown(("read",))
    page.wait_text("#blocks", SCANNER)
    disabled = "return [...document.querySelectorAll('#blocks button')].map(b => b.disabled)"
    assert page.run(disabled) == [False, True, True]


@pytest.mark.parametrize(
    ("line", "rights"),
    [
        ("status --json", ("read",)),
        ("list --json --limit 50", ("read",)),
        ("explain --json -- 192.0.2.1", ("read",)),
        ("unblock -- 192.0.2.1", ALL),
        ("allow add --comment LuCI -- 192.0.2.1", ALL),
    ],
)
def test_the_acl_permits_the_commands_of_the_view(line: str, rights: tuple[str, ...]) -> None:
    assert is_permitted(line.split(), rights)


@pytest.mark.parametrize(
    "line",
    [
        "unblock -- 192.0.2.1",
        "allow add --comment LuCI -- 192.0.2.1",
        "explain --pcap /etc/passwd --json -- 192.0.2.1",
        "-c /tmp/x status --json",
        "panic",
    ],
)
def test_the_acl_of_readers_permits_nothing_else(line: str) -> None:
    assert not is_permitted(line.split(), ("read",))


@pytest.mark.parametrize(
    "words", [["--pcap", "FILE", "192.0.2.1"], ["192.0.2.1", "--pcap", "FILE"]]
)
def test_what_the_acl_lets_through_behind_the_dashes_is_an_address(
    installed: Box, words: list[str]
) -> None:
    file = installed.home / "written"
    line = ["explain", "--json", "--", *(str(file) if word == "FILE" else word for word in words)]
    assert is_permitted(line, ("read",))
    assert installed.sentryfw(*line).returncode == 2
    assert installed.sentryfw("unblock", "--", "--all").returncode == 2
    assert not file.exists()


def test_the_menu_names_the_acl_and_the_program() -> None:
    [entry] = json.loads(MENU.read_text()).values()
    assert entry["depends"] == {
        "acl": ["luci-app-sentryfw"], "fs": {"/usr/bin/sentryfw": "executable"},
    }  # fmt: skip
