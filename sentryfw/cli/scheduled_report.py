"""Make a scheduled report: the process that the daemon starts (tools/report/schedule.py).

It reads the daemon's configuration as JSON from stdin, and writes an answer as JSON.
"""

import json
import os
import socket
import sys
import time
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from sentryfw.config.model import Config
from sentryfw.config.respond import Mail
from sentryfw.errors import SentryError
from sentryfw.host.private_files import open_private, private_directory
from sentryfw.netfilter.table import Table
from sentryfw.respond.mail import failure_text, new_message, send
from sentryfw.text import counted
from sentryfw.tools.report import page
from sentryfw.tools.report.report import Report, make

PREFIX: Final = "sentryfw-report-"


def perform(config: Config, at: float, seconds: float) -> str:
    """Make the report of a period, keep and mail it; return a line about it.

    Raise SentryError if a part fails; the others are done.
    """
    with closing(Table()) as table:
        report = make(config, table, seconds)
    html = page.page(report)
    name = f"{PREFIX}{time.strftime('%Y-%m-%d-%H%M', time.localtime(at))}.html"
    done, faults = [], []
    if config.report.directory is not None:
        try:
            keep(config.report.directory, name, html, config.report.keep)
            done.append(str(config.report.directory / name))
        except SentryError as error:
            faults.append(str(error))
    if config.report.mail:
        mail = config.respond.mail
        try:
            send(mail, compose(mail, report, name, html))
            done.append(f"mailed to {', '.join(mail.to)}")
        except (SentryError, OSError, ValueError) as error:  # smtplib's are OSErrors
            faults.append(f"{mail.host}:{mail.service}: {failure_text(error)}")
    if faults:
        raise SentryError("; ".join([*faults, *(f"but {text}" for text in done)]))
    return "; ".join(done)


def keep(directory: Path, name: str, html: str, count: int) -> None:
    """Write a page into a directory, and delete the oldest beyond `count`. Raise SentryError."""
    private_directory(directory)
    made = directory / f".{name}.new"
    try:
        with os.fdopen(open_private(made, os.O_WRONLY | os.O_TRUNC), "w") as file:
            file.write(html)
        made.replace(directory / name)
        for old in sorted(directory.glob(f"{PREFIX}*.html"))[:-count]:
            old.unlink()
    except OSError as error:
        raise SentryError(f"{directory}: {error.strerror}") from None


def compose(config: Mail, report: Report, name: str, html: str) -> EmailMessage:
    """Return the mail with a page."""
    seen = f"{counted(report['blocks'], 'block')} of {counted(report['sources'], 'source')}"
    message = new_message(config, socket.gethostname(), f"report, {seen}")
    message.set_content(
        f"{report['since']} to {report['until']}: {seen}.\n\nThe page is attached;"
        " `sentryfw report` prints it.\n"
    )
    message.add_attachment(html.encode(), maintype="text", subtype="html", filename=name)
    return message


def main() -> None:
    """Read a request, make the report, and write the answer."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    answer: dict[str, Any]
    try:
        request = json.load(sys.stdin)
        config = Config.model_validate(request["config"])
        answer = {"done": perform(config, request["at"], request["seconds"])}
    except (SentryError, OSError) as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
