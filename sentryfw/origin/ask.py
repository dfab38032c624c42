"""Look origins up in a process of its own, for helpers of the daemon: it opens no database itself.

The child reads the sections [geo] and [labels] and addresses as JSON from stdin, and writes their
origins. See docs/decisions.md: origins.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, Final

from sentryfw.config.origin import Geo, Labels
from sentryfw.errors import SentryError
from sentryfw.host import child
from sentryfw.origin.model import Origin

COMMAND: Final = child.command_of("sentryfw.origin.ask")
TIMEOUT_S: Final = 20.0


def ask(geo: Geo, labels: Labels, addresses: Iterable[str]) -> tuple[dict[str, Origin], list[str]]:
    """Return the origins by address, and the faults of the files. Raise SentryError if the process
    fails."""
    request = {
        "geo": geo.model_dump(mode="json"), "labels": labels.model_dump(mode="json"),
        "addresses": list(addresses),
    }  # fmt: skip
    try:
        ended = child.run(COMMAND, request, TIMEOUT_S)
        if ended.status:
            raise subprocess.CalledProcessError(ended.status, COMMAND)
        found = {
            address: Origin(*fields)._replace(labels=tuple(fields[-1]))
            for address, fields in ended.answer["origins"].items()
        }
        return found, [str(fault) for fault in ended.answer["faults"]]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError) as error:
        raise SentryError(f"origins: their process failed: {type(error).__name__}") from None


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request: the child's part."""
    from sentryfw.origin.origins import Origins  # noqa: PLC0415 - of the child alone

    geo, labels = Geo.model_validate(request["geo"]), Labels.model_validate(request["labels"])
    origins = Origins(geo, labels)
    found = {address: origins.of(address) for address in request["addresses"]}
    return {"origins": found, "faults": origins.faults}


def main() -> None:
    """Read a request, and write its answer: the child's part."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
