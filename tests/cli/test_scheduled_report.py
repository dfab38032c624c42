"""A scheduled report: the page in a directory, by mail, and what fails."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli import scheduled_report
from sentryfw.cli.scheduled_report import keep, perform
from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.tools.report.schedule import NAME
from support.box import Box
from support.fake_host import FakeHost
from support.waiting import wait_for

AT = 1_800_000_000.0


def made(host: FakeHost, **report: Any) -> Config:
    mail = {"mail": {"to": ["admin@example.org"]}}
    changed = {**host.settings.model_dump(mode="json"), "report": {"every": "1w", **report}}
    return Config.model_validate(changed | {"respond": mail})


def run(host: FakeHost, config: Config) -> str:
    return host.inside(lambda: perform(config, AT, 604800.0))


@pytest.fixture
def installed_host(bare_host: FakeHost) -> FakeHost:
    bare_host.install()
    return bare_host


def test_the_newest_pages_are_kept(installed_host: FakeHost) -> None:
    directory = installed_host.home / "reports"
    directory.mkdir(mode=0o750)
    names = [f"sentryfw-report-2026-0{month}-01-0000.html" for month in range(1, 6)]
    for name in [*names, "notes.html"]:
        (directory / name).write_text("old")
    line = run(installed_host, made(installed_host, directory=str(directory), keep=3))
    kept = sorted(path.name for path in directory.iterdir())
    assert kept[:3] == ["notes.html", *names[3:]]
    assert line == str(directory / kept[3])
    assert (directory / kept[3]).read_text().startswith("<!doctype html>")


def test_a_page_is_mailed(installed_host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(scheduled_report, "send", lambda _config, message: sent.append(message))
    assert run(installed_host, made(installed_host, mail=True)) == "mailed to admin@example.org"
    [message] = sent
    assert message["To"] == "admin@example.org"
    assert "report, 0 blocks of 0 sources" in message["Subject"]
    [page] = message.iter_attachments()
    assert page.get_content_type() == "text/html"
    assert page.get_filename().startswith("sentryfw-report-20")


def test_a_mail_that_fails_costs_no_page(
    installed_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(scheduled_report, "send", refuse)
    directory = installed_host.home / "reports"
    with pytest.raises(SentryError, match=r"localhost:25: .*refused.*; but .*\.html"):
        run(installed_host, made(installed_host, mail=True, directory=str(directory)))
    assert len(list(directory.iterdir())) == 1


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SentryError, match="not be writable by others"):
        keep(tmp_path, "sentryfw-report-x.html", "", 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(SentryError, match="file"):
        keep(tmp_path / "file", "sentryfw-report-x.html", "", 3)


@pytest.mark.netns
def test_the_daemon_makes_it_when_it_is_due(installed: Box) -> None:
    directory = installed.home / "state" / "reports"
    installed.configure(f'[report]\nevery = "1h"\ndirectory = "{directory}"\n')
    place = installed.settings.paths.state / NAME
    place.write_text(f"{time.time() - 3700:.0f}\n")
    daemon = installed.start_daemon()
    wait_for(lambda: list(directory.glob("sentryfw-report-*.html")), "a page", 30)

    def noted() -> list[dict[str, Any]]:
        lines = installed.settings.paths.events.read_text().splitlines()
        events = [json.loads(line)["sentryfw"] for line in lines]
        return [event for event in events if event.get("event") == "report"]

    assert str(directory) in wait_for(noted, "the event")[0]["done"]
    wait_for(lambda: time.time() - float(place.read_text()) < 3600, "the time is kept")
    daemon.terminate()
    assert daemon.wait() == 0
