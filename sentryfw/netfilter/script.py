"""The script that makes the table: text out of ruleset.py, loaded by load.py."""

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from sentryfw.engine.networks import Range
from sentryfw.netfilter.schema import TABLE

_OBJECT: Final = re.compile(r"^\t(set|chain|counter) (\w+) \{$", re.MULTILINE)
_FILLED_SET: Final = re.compile(r"^\tset (\w+) \{\n(?:\t\t.*\n)*?\t\telements = ", re.MULTILINE)


class Ruleset(NamedTuple):
    """The rendered rulesets of a configuration."""

    defines: str
    body: str
    queue_rule: str
    """The file with the queue statement, which some kernels lack."""
    queue_number: int
    never_block: tuple[list[Range], list[Range]] = ([], [])
    """The ranges in never_block4 and never_block6, which the defines have as text."""

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of the sets, chains or counters ("set", "chain", "counter")."""
        found = _OBJECT.findall(self.body)
        return frozenset(name for its_kind, name in found if its_kind == kind)

    def script(self, *, queue_statement: bool, update: bool, without: Collection[str] = ()) -> str:
        """Return the nft script.

        `queue_statement`: the kernel has `queue`; otherwise the script lacks the queue rule.
        `update`: the table exists and has our schema: its rules and the sets of the configuration
        are replaced; blocks, partners and counters stay.
        `without`: sets whose elements stay as they are, too.
        """
        defines, body = self.defines, self.body
        for name in without:
            defines = re.sub(rf"^define {name} = .*\n", "", defines, flags=re.MULTILINE)
            body = body.replace(f"\t\telements = ${name}\n", "")
        start = _start_of_update(body) if update else _START
        queue_rule = self.queue_rule if queue_statement else ""
        return f"{defines}\n{start}\n{body}{queue_rule}"


def _start_of_update(body: str) -> str:
    flushes = (f"flush set inet {TABLE} {name}\n" for name in _FILLED_SET.findall(body))
    return f"flush table inet {TABLE}\n" + "".join(flushes)


_START: Final = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"


def restore_elements(lines: Iterable[str]) -> str:
    """Return the statements that restore elements (`SET { ELEMENT }`) in a new table."""
    return "".join(f"add element inet {TABLE} {line}\n" for line in lines)
