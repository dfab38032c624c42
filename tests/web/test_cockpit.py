"""The page in a real Cockpit, in Chromium, on a real table: what a person sees and does."""

import json
import time

import pytest

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import Named
from support.box import AS_UNPRIVILEGED, Box
from support.browser import Browser
from support.cockpit import URL, Cockpit
from support.cockpit_login import LoginCockpit
from support.pages import HOSTILE, PAGE, SCANNER, SOON_S, VIEWER, Open, blocked, remember
from support.waiting import wait_for

pytestmark = [pytest.mark.web, pytest.mark.netns]


def test_the_first_screen_has_the_state_the_figures_and_the_newest_blocks(
    guarded: Box, opened: Open
) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = opened()
    assert (
        page.wait_text("#state", "Guarding")
        == "Guarding: scanners are blocked at their first probes."
    )
    row = page.wait_text("tbody tr", SCANNER)
    for part in ("portscan", "syn", "masscan", "59 min", "blocked", "could be forged"):
        assert part in row
    assert page.wait_text("[data-figure=blocked]", "1") == "1"
    assert page.wait_text("[data-figure=today]", "1") == "1"
    assert page.text(".strip .some") == ""
    assert len(page.all(".strip .some")) == 1
    assert [line for line in page.messages() if "Security Policy" in line] == []


def test_nothing_is_unblocked_without_a_second_click(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER, "203.0.113.8")
    remember(guarded)
    page = opened()
    page.wait_text("tbody tr", SCANNER)
    page.press("Unblock", "tbody tr")
    page.press("Cancel", "tbody tr")
    page.press("Unblock", "tbody tr")
    assert page.wait_text("tbody tr", f"Unblock {SCANNER}?")
    assert SCANNER in blocked(guarded)
    page.press(f"Unblock {SCANNER}?", "tbody tr")
    wait_for(lambda: SCANNER not in blocked(guarded), "it is unblocked", SOON_S)
    assert "203.0.113.8" in blocked(guarded)
    page.wait_text("#said", f"{SCANNER} is unblocked")


def test_an_address_is_explained_with_every_probe(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = opened()
    page.wait_text("#state", "Guarding")
    page.type("#searched", f"{SCANNER}\ue007")
    page.wait_text("#view h2", "blocked")
    story = page.text("#view table")
    assert [f"tcp/{port}" in story for port in (22, 23, 25)] == [True] * 3
    assert "3 targets within 300 s" in story


def test_a_block_names_the_zone_that_judged_it(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER, "203.0.113.8")
    remember(guarded, zone="guest-wifi")
    remember(guarded, "203.0.113.8")
    page = opened()
    page.wait_text("#view tbody", SCANNER)
    assert _zones(page) == {SCANNER: "zone guest-wifi", "203.0.113.8": None}
    page.press("History", "#tabs")
    page.wait_text("#view tbody", SCANNER, SOON_S)
    assert _zones(page) == {SCANNER: "zone guest-wifi", "203.0.113.8": None}


def _zones(page: Browser) -> dict[str, str | None]:
    """Return the lines about zones in the table, by the row's address."""
    script = """return [...document.querySelectorAll('#view tbody tr')].map(row => [
        row.innerText.match(/203\\.0\\.113\\.\\d+/)[0],
        [...row.querySelectorAll('.quiet')].map(e => e.innerText).find(t => t.startsWith('zone '))
          ?? null])"""
    return dict(page.run(script))


def test_the_page_in_german(guarded: Box, opened: Open) -> None:
    """Cockpit's language is a cookie; the words of the command line stay English."""
    guarded.add_block(SCANNER)
    remember(guarded, zone="guest")
    page = opened()
    page.wait_text("#state", "Guarding")
    page.run("document.cookie = 'CockpitLang=de-de; path=/'")
    page.open(PAGE)
    expected = "Schützt: Scanner werden bei ihren ersten Sonden gesperrt."
    assert page.wait_text("#state", "Schützt") == expected
    assert page.run("return [document.documentElement.lang, document.title]") == ["de", "Portscans"]
    row = page.wait_text("tbody tr", SCANNER)
    for part in ("portscan", "Min.", "Sek.", "gesperrt", "fälschbar", "Zone guest", "Warum"):
        assert part in row, part
    hours = "return document.querySelector('.strip').getAttribute('aria-label')"
    one = "1 Sperre in den letzten 24 Stunden, höchstens 1 je Stunde"
    wait_for(lambda: page.run(hours) == one, "the day is shown", SOON_S)
    page.press("Warum", "tbody tr")
    page.wait_text("#view h3", "Was geschah: 4 Ereignisse")
    page.wait_text("#view table", "Sonde, die zur Sperre führte")
    assert page.run("return document.querySelector('.because bdi').lang") == "en"
    page.press("Freigeben", "#view")
    page.press(f"{SCANNER} freigeben?", "#view")
    page.wait_text("#said", f"{SCANNER} ist freigegeben", SOON_S)
    assert SCANNER not in blocked(guarded)
    for tab, word in (
        ("Verlauf", "1 Sperre"), ("Positivliste", "Datei importieren"),
        ("Konfiguration", "Wirksam"), ("Betriebszustand", "in Ordnung"),
    ):  # fmt: skip
        page.press(tab, "#tabs")
        page.wait_text("#view", word, SOON_S)
        root = "document.documentElement"
        assert page.run(f"return {root}.scrollWidth <= {root}.clientWidth"), tab


def test_an_unknown_address_has_no_story(guarded: Box, opened: Open) -> None:
    page = opened()
    page.wait_text("#state", "Guarding")
    page.type("#searched", "198.51.100.77\ue007")
    page.wait_text("#view h2", "not blocked")
    page.press("Back")
    page.type("#searched", "\ue003" * 20 + "no address\ue007")
    page.wait_text("#view .pf-v6-c-alert", "neither an address nor a network")


def test_an_address_is_allowed_and_removed_again(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER)
    page = opened()
    page.wait_text("#state", "Guarding")
    page.press("Allowlist", "#tabs")
    page.type("#allowed", SCANNER)
    page.type(".filters label:nth-of-type(2) input", HOSTILE)
    page.press("Add", ".filters")
    page.press(f"Never block {SCANNER}?")
    page.wait_text("#said", "never blocked", SOON_S)
    page.wait_text("#view tbody", SCANNER, SOON_S)
    assert SCANNER not in blocked(guarded)
    [row] = json.loads(guarded.sentryfw("allow", "list", "--json").stdout)
    assert "window.hacked" in row["comment"]
    assert page.run("return window.hacked ?? null") is None
    page.press("Remove", "#view tbody tr")
    page.press(f"Remove {SCANNER}/32?", "#view tbody tr")
    wait_for(
        lambda: guarded.sentryfw("allow", "list", "--json").stdout.strip() == "[]",
        "removed",
        SOON_S,
    )


def test_hostile_text_is_text(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER)
    remember(guarded, tool=HOSTILE, reason=HOSTILE, scan=HOSTILE, kinds=[HOSTILE])
    with Ledger(guarded.settings.paths.ledger) as ledger:
        ledger.add_reactions([], [Named(SCANNER, HOSTILE, time.time())])
    page = opened()
    page.wait_text("tbody tr", "onerror")
    page.press("Why", "tbody tr")
    page.wait_text("#view h2", "blocked")
    page.wait_text("#view table", "onerror")
    assert page.run("return window.hacked ?? null") is None
    assert page.all("#view img") == []
    assert "\u202e" not in page.text("body")


def test_the_viewer_is_never_locked_out(guarded: Box, opened: Open) -> None:
    page = opened(peer=VIEWER)
    page.wait_text("#state", "Guarding")
    for text in (VIEWER, "192.0.2.0/24"):
        page.type("#searched", f"{text}\ue007")
        page.wait_text("#view .refused", f"contains {VIEWER}")
        assert page.run("return document.querySelector('#view .refused button').disabled") is True
        page.press("Back")
        page.run("document.querySelector('#searched').value = ''")
    page.type("#searched", "198.51.100.77\ue007")
    page.press("Block", "#view")
    page.press("Block 198.51.100.77?", "#view")
    wait_for(lambda: "198.51.100.77" in blocked(guarded), "another one is blocked", SOON_S)


@pytest.mark.parametrize("peer", [None, "127.0.0.1"])
def test_a_session_that_does_not_know_its_viewer_blocks_nothing(
    guarded: Box, opened: Open, peer: str | None
) -> None:
    page = opened(peer=peer)
    page.wait_text("#state", "Guarding")
    page.type("#searched", "198.51.100.0/24\ue007")
    page.wait_text("#view .refused", "use the command line")
    disabled = "return [...document.querySelectorAll('#view .refused button')].map(b => b.disabled)"
    assert page.run(disabled) == [True, True]


def test_a_user_without_rights_is_shown_the_way_to_them(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER)
    page = opened(prefix=(*AS_UNPRIVILEGED,))
    page.wait_text("#faults", "administrative access")
    assert page.all("tbody button") == []


def test_a_host_without_the_program_is_named(box: Box) -> None:
    command = box.launch("-c", box.config)
    with Cockpit(box.namespace, command) as cockpit, Browser(box.namespace) as page:
        cockpit.program.unlink()
        page.open(PAGE)
        page.wait_text("#faults", "SentryFW is not installed on this host.")


def test_a_login_without_rights_gets_them_in_cockpits_own_way(guarded: Box) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    command = guarded.launch("-c", guarded.config)
    with LoginCockpit(guarded.namespace, command) as cockpit, Browser(guarded.namespace) as page:
        cockpit.log_in(page)
        page.wait_text("#faults", "administrative access")
        assert page.all("tbody button") == []
        cockpit.elevate(page)
        page.wait_text("#state", "Guarding")
        page.wait_text("tbody tr", SCANNER)
        assert page.text("#faults") == ""
        page.press("Unblock", "tbody tr")
        page.press(f"Unblock {SCANNER}?", "tbody tr")
        wait_for(lambda: SCANNER not in blocked(guarded), "it is unblocked", SOON_S)


def test_the_menu_of_cockpit_has_the_entry_in_german(guarded: Box) -> None:
    command = guarded.launch("-c", guarded.config)
    with LoginCockpit(guarded.namespace, command) as cockpit, Browser(guarded.namespace) as page:
        page.open(URL)
        page.run("document.cookie = 'CockpitLang=de-de; path=/'")
        cockpit.log_in(page)
        page.wait_text("#faults", "Dies erfordert administrativen Zugang.")
        page.frame(None)
        page.wait_text("#host-apps", "Portscans")


def test_a_daemon_that_stops_and_a_table_that_goes_are_shown(installed: Box, opened: Open) -> None:
    daemon = installed.start_daemon()
    page = opened()
    page.wait_text("#state", "Guarding")
    daemon.terminate()
    daemon.wait()
    page.wait_text("#state", "Not guarding: because the daemon is not running", 5.0)
    installed.nft("delete", "table", "inet", "sentryfw")
    page.wait_text("#state", "nothing is installed", 5.0)
    installed.install()
    daemon = installed.start_daemon()
    page.wait_text("#state", "Guarding", 5.0)
    daemon.terminate()
    daemon.wait()


def test_a_broken_configuration_is_shown_until_it_is_repaired(guarded: Box, opened: Open) -> None:
    extra = guarded.home / "conf.d" / "20-typo.toml"
    extra.parent.mkdir()
    page = opened()
    page.wait_text("[data-figure=today]", "0")
    wait_for(lambda: page.run("return performance.now()") > 4000, "the files are watched", SOON_S)
    extra.write_text('[detect]\ntrigger = "three"\n')
    page.wait_text("#faults", "detect.trigger", SOON_S)
    extra.unlink()
    wait_for(lambda: page.text("#faults") == "", "it is gone", SOON_S)


def test_a_fault_in_the_pages_own_file_is_shown_at_its_key_and_not_applied(
    guarded: Box, opened: Open
) -> None:
    page = opened()
    page.wait_text("#state", "Guarding")
    page.press("Configuration", "#tabs")
    page.wait_text("#view table", "paths.state", SOON_S)
    page.type("#own-file", "[detect]\nwindow = 60\ntrigger = 'three'\n")
    page.press("Check and apply")
    page.press("Write the file, and reload?")
    page.wait_text("#view .pf-v6-c-alert.pf-m-danger", "detect.trigger", SOON_S)
    assert page.text("#view .pf-v6-c-alert.pf-m-danger button") == "Go to line 3"
    own = guarded.home / "conf.d" / "50-cockpit.toml"
    assert not own.exists()
    chosen = (
        "const t = document.querySelector('#own-file');"
        " return t.value.slice(t.selectionStart, t.selectionEnd)"
    )
    assert page.run(chosen) == "trigger = 'three'"
    page.run("document.querySelector('#own-file').value = '[detect]\\ntrigger = 5\\n'")
    page.press("Check and apply")
    page.press("Write the file, and reload?")
    page.wait_text("#said", "reloaded: detect.trigger", SOON_S)
    assert own.read_text() == "[detect]\ntrigger = 5\n"


def test_the_switch_to_observing_and_back(guarded: Box, opened: Open) -> None:
    page = opened()
    page.wait_text("#state", "Guarding")
    page.press("Configuration", "#tabs")
    page.press("Observe only")
    page.press("Block nothing from now on?")
    page.wait_text("#state", "Observing", SOON_S)
    page.press("Switch blocking on")
    page.press("Block scanners from now on?")
    page.wait_text("#state", "Guarding", SOON_S)


def test_the_first_week_begins_on_trial_and_is_kept(box: Box, opened_bare: Open) -> None:
    page = opened_bare()
    page.wait_text("#state", "nothing is installed")
    page.press("Configuration", "#tabs")
    page.press("Install on trial", "#view")
    page.press("Install on trial?", "#view")
    page.wait_text("#state", "On trial until", SOON_S)
    page.press("Keep the install", "#view")
    page.press("Keep it?", "#view")
    wait_for(lambda: "On trial" not in page.text("#state"), "the trial is over", SOON_S)
    assert box.sentryfw("status").returncode == 3
    box.sentryfw("uninstall")


def test_rows_do_not_move_under_the_pointer(guarded: Box, opened: Open) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = opened()
    page.wait_text("tbody tr", SCANNER)
    page.point("tbody tr:first-child td")
    for number in range(20, 30):
        guarded.add_block(f"203.0.113.{number}")
        remember(guarded, f"203.0.113.{number}")
    page.wait_text(".newer", "10 newer blocks")
    assert SCANNER in page.text("tbody tr:first-child")
    assert len(page.all("tbody tr")) == 1
    page.point("#state")
    wait_for(lambda: len(page.all("tbody tr")) == 11, "they are shown")
    assert "203.0.113.29" in page.text("tbody tr:first-child")


def test_tabs_are_operated_by_the_keyboard(guarded: Box, opened: Open) -> None:
    page = opened()
    page.wait_text("#state", "Guarding")
    page.run("document.querySelector('#tab-overview').focus()")
    page.keys("\ue014", "\ue014")
    page.wait_text("#view table", "own address", SOON_S)
    selected = "return document.activeElement.id + document.activeElement.ariaSelected"
    assert page.run(selected) == "tab-allowlisttrue"


def test_the_past_is_filtered(guarded: Box, opened: Open) -> None:
    remember(guarded, "203.0.113.50", blocked_at=time.time() - 7000, timeout_s=60.0, tool="zmap")
    remember(guarded)
    page = opened()
    page.wait_text("#state", "Guarding")
    page.press("History", "#tabs")
    page.wait_text("#view table", "203.0.113.50", SOON_S)
    page.type(".filters label:nth-of-type(3) input", "ZMAP")
    assert page.text("#view [role=status]") == "1 block"


def test_the_doctor_is_asked(guarded: Box, opened: Open) -> None:
    page = opened()
    page.wait_text("#state", "Guarding")
    page.press("Health", "#tabs")
    page.wait_text("#view .facts", "Process")
    page.wait_text("#view table", "ok", SOON_S)


@pytest.mark.parametrize("width", [360, 768, 3840])
def test_no_width_scrolls_sideways(guarded: Box, opened: Open, width: int) -> None:
    guarded.add_block(SCANNER)
    remember(guarded)
    page = opened()
    page.resize(width, 900)
    page.wait_text("tbody tr", SCANNER)
    for tab in ("Overview", "History", "Allowlist", "Configuration", "Health"):
        page.press(tab, "#tabs")
        root = "document.documentElement"
        assert page.run(f"return {root}.scrollWidth <= {root}.clientWidth"), tab


@pytest.mark.parametrize(
    ("action", "text", "peer", "is_refused"),
    [
        ("block", "192.0.2.9", "192.0.2.9", True),
        ("block", "192.0.2.8", "192.0.2.9", False),
        ("block", "192.0.0.0/16", "192.0.2.9", True),
        ("block", "192.0.2.9", "::ffff:192.0.2.9", True),
        ("block", "2001:db8::1", "2001:db8::ffff", True),
        ("block", "2001:db8:0:1::1", "2001:db8::ffff", False),
        ("block", "2001:db8::/32", "2001:DB8:5::9%eth0", True),
        ("block", "198.51.100.1", "", True),
        ("block", "198.51.100.1", "::1", True),
        ("allow", "198.51.100.1", "", False),
        ("allow", "198.51.100.0/24", "127.0.0.1", True),
        ("allow", "198.51.100.0/24", "192.0.2.9", False),
        ("disallow", "192.0.2.0/24", "192.0.2.9", True),
        ("block", "198.51.100.256", "192.0.2.9", True),
        ("block", "1::2::3", "192.0.2.9", True),
        ("block", "198.51.100.1/33", "192.0.2.9", True),
    ],
)
def test_an_action_that_could_lock_the_viewer_out_is_refused(
    rules: Browser, action: str, text: str, peer: str, *, is_refused: bool
) -> None:
    script = "return import('./address.js').then(m => m.refusal(...arguments))"
    assert (rules.run(script, action, text, peer) is not None) == is_refused


@pytest.mark.parametrize(
    ("text", "fault", "line"),
    [
        ("[detect]\ntrigger = 1\n", "/etc/x.toml: detect.trigger: write a number", 1),
        ("[block]\na = 1\n[detect]\nb = 1\ntrigger = 2", "detect.trigger: no", 4),
        ("[detect.triggers]\nfin = 'x'\n", "detect.triggers.fin: no", 1),
        ("a\nb\n[c", "not TOML: an end (at line 3, column 1)", 2),
        ("[detect]\nwindow = 1\n", "detect.trigger: no", -1),
    ],
)
def test_a_fault_is_found_in_the_text(rules: Browser, text: str, fault: str, line: int) -> None:
    script = "return import('./toml.js').then(m => m.faultyLine(...arguments))"
    assert rules.run(script, text, fault) == line
